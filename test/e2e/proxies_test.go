package e2e

import (
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
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

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
	target, err := url.Parse(server.URL)
	if err != nil {
		return between{}, err
	}
	silent := log.New(io.Discard, "", 0)
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, ErrorLog: silent,
	}
	listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, forward) }))
	listener.EnableHTTP2 = true
	listener.Config.ErrorLog = silent
	listener.StartTLS()
	return between{listener}, nil
}

// ca is the certificate that it is trusted by, as PEM.
func (b between) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
}

// tunnel connects the two ends of a CONNECT request until one of them closes.
func tunnel(w http.ResponseWriter, r *http.Request) {
	upstream, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
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
	pipe(downstream, upstream, func() bool { return true })
}

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

// front is a TCP proxy in front of servers.
type front struct {
	url         string
	connections atomic.Int64
}

// startFront starts one that listens on the address. The n-th connection leads to
// target(n). While passes returns false, answers and their connections are lost.
func startFront(t *testing.T, address string, target func(n int64) string, passes func() bool) *front {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	f := &front{url: "https://" + listener.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).Dial("tcp", strings.TrimPrefix(target(f.connections.Add(1)), "https://"))
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
	return f
}
