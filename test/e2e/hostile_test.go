package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// attack is a server that is not, or not all the time, the one of the token. For
// the n-th connection, from 1, its certificate is of our CA or of the evil one.
type attack struct {
	handler http.HandlerFunc
	evil    func(connection int64) bool
	name    string // that the certificate is for, if not 127.0.0.1
}

// attacks are made anew for each run, since some count what they are asked.
func attacks(ours, evil *k3stest.Authority) map[string]attack {
	serve := func(bundle func(n int64) []byte, other http.HandlerFunc) http.HandlerFunc {
		var n atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			if r.URL.Path == "/cacerts" {
				_, _ = w.Write(bundle(n.Add(1)))
			} else {
				other(w, r)
			}
		}
	}
	showing := func(b []byte) func(int64) []byte { return func(int64) []byte { return b } }
	// greedy takes every credential, and asks clients for it as K3s does.
	greedy := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"forbidden","code":403}`)
		}
	}
	good := serve(showing(ours.PEM()), greedy)
	after := func(n int64) func(int64) bool { return func(i int64) bool { return i > n } }
	never := func(int64) bool { return false }
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}
	return map[string]attack{
		"another CA":                          {serve(showing(evil.PEM()), greedy), after(0), ""},
		"the right bundle, another CA's cert": {good, after(0), ""},
		"another CA after the download":       {good, after(1), ""},
		"another CA after the validation":     {good, after(2), ""},
		"another CA before the credentials":   {good, after(3), ""},
		"a certificate for another name":      {good, never, "s1.example"},
		"a bundle of more than 1 MiB":         {serve(showing(append(bytes.Repeat([]byte("#"), 1<<20), ours.PEM()...)), greedy), never, ""},
		"no PEM":                              {serve(showing([]byte("<html>hello</html>")), greedy), never, ""},
		"an empty bundle":                     {serve(showing(nil), greedy), never, ""},
		"a redirect of the download":          {redirect, never, ""},
		"a redirect after the trust":          {serve(showing(ours.PEM()), redirect), never, ""},
		"another API":                         {http.NotFound, never, ""},
		"an API behind the right bundle":      {serve(showing(ours.PEM()), http.NotFound), never, ""},
		"another bundle the second time": {serve(func(n int64) []byte {
			return map[bool][]byte{true: ours.PEM(), false: evil.PEM()}[n == 1]
		}, greedy), never, ""},
		"a body that never ends": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, strings.Repeat("#", 1<<10))
			}
		}, never, ""},
		"silence": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, never, ""},
	}
}

// hostile is a server that keeps every byte that it was sent, after decryption.
type hostile struct {
	*httptest.Server
	mu       sync.Mutex
	received bytes.Buffer
}

func startHostile(t *testing.T, a attack, ours, evil *k3stest.Authority) *hostile {
	t.Helper()
	template := x509.Certificate{Subject: pkix.Name{CommonName: "k3s", Organization: []string{"k3s"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if a.name != "" {
		template.DNSNames = []string{a.name}
	} else {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	var certificates []*tls.Certificate
	for _, ca := range []*k3stest.Authority{ours, evil} {
		leaf := template
		made, err := k3stest.NewCertificate(ca, &leaf)
		if err != nil {
			t.Fatal(err)
		}
		certificates = append(certificates, &tls.Certificate{Certificate: [][]byte{made.Certificate.Raw, ca.Certificate.Raw}, PrivateKey: made.Key})
	}
	h := &hostile{}
	var connections atomic.Int64
	h.Server = httptest.NewUnstartedServer(a.handler)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.Listener = overheard{tls.NewListener(h.Listener, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificates[map[bool]int{true: 1}[a.evil(connections.Add(1))]], nil
		},
	}), h}
	h.Start()
	t.Cleanup(h.Close)
	h.URL = "https://" + h.Listener.Addr().String()
	return h
}

// overheard is a listener whose connections tell the server what they read.
type overheard struct {
	net.Listener
	by *hostile
}

type overheardConn struct {
	net.Conn
	by *hostile
}

func (l overheard) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return overheardConn{conn, l.by}, err
}

func (c overheardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	c.by.received.Write(b[:n])
	return n, err
}

// heard tells whether the server was sent credentials, or the secret.
func (h *hostile) heard(secret string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := h.received.String()
	return strings.Contains(text, "\nAuthorization:") || leak(text, secret) != "" ||
		strings.Contains(text, base64.StdEncoding.EncodeToString([]byte("server:"+secret)))
}

// TestHostileServersHearNoCredentials has verify and rotate talk to servers that
// have not proved to be the token's.
func TestHostileServersHearNoCredentials(t *testing.T) {
	t.Parallel()
	ours, err := k3stest.NewAuthority("k3s-server-ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	evil, err := k3stest.NewAuthority("k3s-server-ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(ours.PEM()))
	for name := range attacks(ours, evil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for command, secret := range map[string]string{
				"verify - K10" + hash + "::server:":               firstPassword,
				"verify - K10" + hash + "::abcdef.":               "thesecret0123456",
				"rotate --yes --token - K10" + hash + "::server:": secondPassword,
			} {
				h := startHostile(t, attacks(ours, evil)[name], ours, evil)
				words := strings.Fields(command)
				r := newRun(t, "none", append(words[:len(words)-1], "--server", h.URL, "--request-timeout", "2s")...)
				r.Stdin = strings.NewReader(words[len(words)-1] + secret + "\n")
				got := r.begin().end()
				if got.exitCode != 1 || strings.Contains(got.stdout+got.stderr, secret) {
					t.Errorf("%s: exit code %d, want 1:\n%s%s", words[0], got.exitCode, redact(got.stdout), redact(got.stderr))
				}
				if h.heard(secret) {
					t.Errorf("%s: the server heard the credentials", words[0])
				}
			}
		})
	}
}
