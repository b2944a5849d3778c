package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// front starts a TCP proxy on the lab's network, at an address that is not in the
// server's certificate.
func (l *lab) front(t *testing.T, targets ...string) string {
	t.Helper()
	next := func(n int64) string { return targets[n%int64(len(targets))] }
	return startFront(t, l.network.Here().Address, next, func() bool { return true }).url
}

// startRouter starts a load balancer that looks at the name in the TLS handshake, and
// ends connections without it.
func (l *lab) startRouter(t *testing.T) string {
	t.Helper()
	listener := l.listen(t)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go l.route(client)
		}
	}()
	return strings.Replace("https://"+listener.Addr().String(), l.network.Here().Address, labName, 1)
}

// route reads the first message of a handshake, and passes on the connection if it
// names the server.
func (l *lab) route(client net.Conn) {
	hello := &helloConn{Conn: client}
	var name string
	_ = tls.Server(hello, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			name = info.ServerName
			return nil, errors.New("read enough")
		},
	}).Handshake() //nolint:noctx // it ends with the connection
	upstream, err := new(net.Dialer).Dial("tcp", strings.TrimPrefix(l.URL, "https://"))
	if err != nil || name != labName {
		_ = client.Close()
		return
	}
	_, _ = upstream.Write(hello.read)
	pipe(client, upstream, func() bool { return true })
}

// helloConn keeps the bytes that are read, and writes none.
type helloConn struct {
	net.Conn
	read []byte
}

func (c *helloConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read = append(c.read, b[:n]...)
	return n, err
}

func (c *helloConn) Write(b []byte) (int, error) { return len(b), nil }

// listen opens a port on the lab's network.
func (l *lab) listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(l.network.Here().Address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// startTerminator starts a reverse proxy that ends TLS with a certificate of the CA
// for its own address and those given.
func (l *lab) startTerminator(t *testing.T, ca *k3stest.Authority, more ...net.IP) string {
	t.Helper()
	listener := l.listen(t)
	made, err := k3stest.NewCertificate(ca, &x509.Certificate{
		Subject: pkix.Name{CommonName: "load balancer"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: append(more, net.ParseIP(l.network.Here().Address)),
	})
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(l.SupervisorURL)
	if err != nil {
		t.Fatal(err)
	}
	silent := log.New(io.Discard, "", 0)
	handler := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ErrorLog:  silent,
	}
	certificate := tls.Certificate{Certificate: [][]byte{made.Certificate.Raw}, PrivateKey: made.Key}
	proxy := &httptest.Server{
		Listener: listener, Config: &http.Server{Handler: handler, ErrorLog: silent},
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}},
	}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return "https://" + listener.Addr().String()
}

// startHTTPProxy starts a proxy that leads each CONNECT to the lab's server.
func (l *lab) startHTTPProxy(t *testing.T) string {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = strings.TrimPrefix(l.URL, "https://")
		tunnel(w, r)
	})
	proxy := &httptest.Server{Listener: l.listen(t), Config: &http.Server{Handler: handler}}
	proxy.Start()
	t.Cleanup(proxy.Close)
	return "http://" + proxy.Listener.Addr().String()
}
