package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		certificate := certificates[0]
		if n.Add(1) > connections {
			certificate = certificates[1]
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}, nil
	}}
	server, err := startHTTP("127.0.0.1", config, i)
	if err != nil {
		t.Fatal(err)
	}
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
	genuine, ours := newCertificate(t, "127.0.0.1")
	forged, evil := newCertificate(t, "127.0.0.1")
	trusted := "SSL_CERT_FILE=" + writeFile(t, t.TempDir(), "evil.crt", string(evil))
	for name, test := range map[string]struct {
		bundle      []byte
		connections int64 // with the right certificate
		env         string
	}{
		"the right bundle, another CA's certificate": {ours, 0, ""},
		"the same, trusted by the machine":           {ours, 0, trusted},
		"another CA, trusted by the machine":         {evil, 0, trusted},
		"another CA before the credentials":          {ours, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for command, secret := range map[string]string{
				"verify - K10HASH::server:":               firstPassword,
				"verify - K10HASH::abcdef.":               "thesecret0123456",
				"rotate --yes --token - K10HASH::server:": firstPassword,
			} {
				i := &impostor{bundle: test.bundle}
				words := strings.Fields(strings.Replace(command, "HASH", fmt.Sprintf("%x", sha256.Sum256(ours)), 1))
				r := newRun(t, "none", append(words[:len(words)-1], "--server", i.start(t, test.connections, [2]tls.Certificate{genuine, forged}))...)
				r.Env = append(r.Env, test.env)
				r.Stdin = strings.NewReader(words[len(words)-1] + secret + "\n")
				got := r.begin().end()
				if got.exitCode != 1 || strings.Contains(got.stdout+got.stderr, secret) {
					t.Errorf("%s: exit code %d, want 1:\n%s%s", words[0], got.exitCode, redact(got.stdout), redact(got.stderr))
				}
				text := i.received.String()
				if !strings.Contains(text, "/cacerts") || strings.Contains(text, "Authorization:") || leak(text, secret) != "" {
					t.Errorf("%s: the server heard the credentials, or nothing:\n%s", words[0], redact(text))
				}
			}
		})
	}
}
