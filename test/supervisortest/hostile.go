package supervisortest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Hostile is a server that a test plays an attack with. It keeps every byte
// that it was sent, after decryption.
type Hostile struct {
	// URL is https://127.0.0.1:<port>.
	URL string

	mu       sync.Mutex
	received bytes.Buffer
	accepted int
}

// NewHostile starts a server that answers with the handler, and stops it when
// the test is over. For the n-th connection, from 1, its certificate is of the
// CA of pick(n), for 127.0.0.1 or for the names given instead.
func NewHostile(t testing.TB, handler http.Handler, pick func(n int) *Cluster, names ...string) *Hostile {
	t.Helper()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &Hostile{URL: "https://" + tcp.Addr().String()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "k3s", Organization: []string{"k3s"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: names,
	}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	secure := tls.NewListener(tcp, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := pick(h.connection())
			leaf := sign(t, template, c.ca, key, c.key)
			return &tls.Certificate{Certificate: [][]byte{leaf.Raw, c.ca.Raw}, PrivateKey: key}, nil
		},
	})
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(overheard{secure, h})
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return h
}

func (h *Hostile) connection() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accepted++
	return h.accepted
}

// Heard tells whether the server was sent credentials, or the secret in any
// form that a client gives it.
func (h *Hostile) Heard(secret string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := h.received.String()
	forms := []string{"\nAuthorization:", secret}
	for _, user := range []string{"", "server:", "node:"} {
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(user+secret)))
	}
	for _, form := range forms {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// overheard is a listener whose connections tell what they read.
type overheard struct {
	net.Listener
	by *Hostile
}

type overheardConn struct {
	net.Conn
	by *Hostile
}

func (l overheard) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return overheardConn{conn, l.by}, nil
}

func (c overheardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	c.by.received.Write(b[:n])
	return n, err
}

// Always picks one cluster's CA for all connections.
func Always(c *Cluster) func(int) *Cluster { return func(int) *Cluster { return c } }

// Pool returns the CA of the cluster as a certificate pool.
func (c *Cluster) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.ca)
	return pool
}

// ServeHTTP has another server answer as this one.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(w, r) }
