package e2e

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// newCertificate makes a certificate for the address and more, and the CA that signs
// it, as PEM.
func newCertificate(t *testing.T, address string, more ...net.IP) (certificate tls.Certificate, ca []byte) {
	t.Helper()
	chain, key, err := cert.GenerateSelfSignedCertKey(address, more, nil)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = tls.X509KeyPair(chain, key); err != nil {
		t.Fatal(err)
	}
	_, ca = pem.Decode(chain)
	return certificate, ca
}

// listenOn opens a port at the address.
func listenOn(address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(address, "0"))
}

// startHTTP starts an HTTP server at the address, with TLS if that has a configuration.
func startHTTP(address string, config *tls.Config, handler http.Handler) (*httptest.Server, error) {
	listener, err := listenOn(address)
	if err != nil {
		return nil, err
	}
	server := &httptest.Server{
		Listener: listener, TLS: config, EnableHTTP2: true,
		Config: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)},
	}
	if config != nil {
		server.StartTLS()
	} else {
		server.Start()
	}
	return server, nil
}

// reverseProxy passes requests on to a server.
func reverseProxy(server string, transport http.RoundTripper) (http.Handler, error) {
	target, err := url.Parse(server)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, ErrorLog: log.New(io.Discard, "", 0),
	}, err
}

// between is an HTTPS server of another CA in front of the Kubernetes API, as
// Rancher and load balancers are. It has the administrator's credentials.
type between struct{ *httptest.Server }

// startBetween starts one that answers by the handler, which may have a request
// carried out with forward.
func startBetween(server *k3stest.Server, handle func(w http.ResponseWriter, r *http.Request, forward http.Handler)) (between, error) {
	config, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	if err != nil {
		return between{}, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return between{}, err
	}
	forward, err := reverseProxy(server.URL, transport)
	if err != nil {
		return between{}, err
	}
	// The certificate is one of httptest.
	listener, err := startHTTP("127.0.0.1", &tls.Config{MinVersion: tls.VersionTLS12},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, forward) }))
	return between{listener}, err
}

// ca is the certificate that it is trusted by, as PEM.
func (b between) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
}

// flags are kubectl's flags that lead the plugin to it.
func (b between) flags(t *testing.T) []string {
	t.Helper()
	return []string{"--server", b.URL, "--certificate-authority", writeFile(t, t.TempDir(), "ca.crt", string(b.ca()))}
}

// startConnectProxy starts an HTTP proxy that leads a request to tunnel to a host to
// another one.
func startConnectProxy(address string, target func(host string) string) (*httptest.Server, error) {
	return startHTTP(address, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upstream, err := new(net.Dialer).DialContext(r.Context(), "tcp", target(r.Host))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		downstream, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = upstream.Close()
			return
		}
		_, _ = io.WriteString(downstream, "HTTP/1.1 200 Connection established\r\n\r\n")
		pipe(downstream, upstream, always)
	}))
}

func always() bool { return true }

// pipe passes bytes on in both directions until one end closes, or until an
// answer is not to be passed on.
func pipe(client, server net.Conn, passes func() bool) {
	defer client.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	defer server.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil || !passes() {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// startFront starts a TCP proxy at the address, and returns its URL. Connections lead
// to the targets in turn. While passes returns false, answers and their connections are
// lost.
func startFront(t *testing.T, address string, passes func() bool, targets ...string) string {
	t.Helper()
	listener, err := listenOn(address)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ; n++ {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).Dial("tcp", strings.TrimPrefix(targets[n%len(targets)], "https://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { pipe(client, server, passes) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return "https://" + listener.Addr().String()
}
