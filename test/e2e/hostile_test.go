package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// impostor shows a CA bundle, and is another server, or becomes one. It keeps the
// requests that it was sent.
type impostor struct {
	bundle []byte

	mu       sync.Mutex
	received strings.Builder
}

// start starts the impostor, with the first certificate for some connections, and then
// the second one.
func (i *impostor) start(t *testing.T, connections int64, certificates [2]tls.Certificate) string {
	t.Helper()
	var n atomic.Int64
	server := httptest.NewUnstartedServer(i)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		certificate := certificates[0]
		if n.Add(1) > connections {
			certificate = certificates[1]
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}, nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func (i *impostor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	i.mu.Lock()
	i.received.Write(dump)
	i.mu.Unlock()
	w.Header().Set("Connection", "close")
	switch {
	case r.URL.Path == "/cacerts":
		_, _ = w.Write(i.bundle)
	case r.Header.Get("Authorization") == "": // as K3s says
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"forbidden","code":403}`)
	}
}

// TestHostileServersHearNoCredentials has verify and rotate talk to servers that
// have not proved to be the token's. pkg/supervisor has many more of them.
func TestHostileServersHearNoCredentials(t *testing.T) {
	t.Parallel()
	authority := func() (*k3stest.Authority, tls.Certificate) {
		ca, err := k3stest.NewAuthority("k3s-server-ca", nil)
		if err != nil {
			t.Fatal(err)
		}
		made, err := k3stest.NewCertificate(ca, &x509.Certificate{
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			t.Fatal(err)
		}
		return ca, tls.Certificate{Certificate: [][]byte{made.Certificate.Raw}, PrivateKey: made.Key}
	}
	ours, genuine := authority()
	evil, forged := authority()
	trusted := "SSL_CERT_FILE=" + writeFile(t, t.TempDir(), "evil.crt", string(evil.PEM()))
	for name, test := range map[string]struct {
		bundle      []byte
		connections int64 // with the right certificate
		env         string
	}{
		"the right bundle, another CA's certificate": {ours.PEM(), 0, ""},
		"the same, trusted by the machine":           {ours.PEM(), 0, trusted},
		"another CA, trusted by the machine":         {evil.PEM(), 0, trusted},
		"another CA before the credentials":          {ours.PEM(), 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for command, secret := range map[string]string{
				"verify - K10HASH::server:":               firstPassword,
				"verify - K10HASH::abcdef.":               "thesecret0123456",
				"rotate --yes --token - K10HASH::server:": secondPassword,
			} {
				i := &impostor{bundle: test.bundle}
				words := strings.Fields(strings.Replace(command, "HASH", fmt.Sprintf("%x", sha256.Sum256(ours.PEM())), 1))
				r := newRun(t, "none", append(words[:len(words)-1], "--server", i.start(t, test.connections, [2]tls.Certificate{genuine, forged}))...)
				r.Env = append(r.Env, test.env)
				r.Stdin = strings.NewReader(words[len(words)-1] + secret + "\n")
				got := r.begin().end()
				if got.exitCode != 1 || strings.Contains(got.stdout+got.stderr, secret) {
					t.Errorf("%s: exit code %d, want 1:\n%s%s", words[0], got.exitCode, redact(got.stdout), redact(got.stderr))
				}
				if text := i.received.String(); !strings.Contains(text, "/cacerts") || strings.Contains(text, "Authorization:") || leak(text, secret) != "" {
					t.Errorf("%s: the server heard the credentials, or nothing:\n%s", words[0], redact(text))
				}
			}
		})
	}
}
