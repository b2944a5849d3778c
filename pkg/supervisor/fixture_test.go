package supervisor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
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
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	serverPassword = "f00dcafe5ec2e7f00dcafe5ec2e70001"
	agentPassword  = "a9e27a9e27a9e27a9e27a9e27a9e2702"
	newPassword    = `b0b0cafe5ec2e7"\<&>'x{y}#$%` // JSON escapes its end
	bootstrapToken = "abcdef.0123456789abcdef"

	otherHash = "0000000000000000000000000000000000000000000000000000000000000000"
	nobody    = "https://127.0.0.1:1" // nothing listens there
)

// joining is one token of each kind, without CA hash, and the role that it is for.
var joining = map[string]supervisor.Role{
	"server:" + serverPassword: supervisor.Server, "node:" + agentPassword: supervisor.Agent, bootstrapToken: supervisor.Agent,
}

// holdsSecret reports whether a text holds a secret, or credentials as they are sent.
func holdsSecret(text string) bool {
	for _, secret := range []string{serverPassword, agentPassword, newPassword[:14], bootstrapToken[7:]} {
		for _, user := range []string{"server:", "node:"} {
			sent := base64.StdEncoding.EncodeToString([]byte(user + secret))
			if strings.Contains(text, secret) || strings.Contains(text, sent) {
				return true
			}
		}
	}
	return false
}

// checkError fails the test if an error, or its advice, does not have the text, or is
// unfit for a user: a secret or a control character in it, too long, or without advice.
func checkError(t *testing.T, err error, says string) {
	t.Helper()
	text, advice := fmt.Sprint(err), hint.Of(err)
	if !strings.Contains(text+advice, says) || advice == "" || strings.HasSuffix(advice, ".") {
		t.Errorf("got %q with the hint %q, want %q", text, advice, says)
	}
	if strings.ContainsFunc(text+advice, func(r rune) bool { return r < ' ' || r > '~' }) || len(text) > 150 {
		t.Errorf("too long, or with control characters: %q %q", text, advice)
	}
	text += advice
	for ; err != nil; err = errors.Unwrap(err) {
		text += fmt.Sprintf("%v %+v %#v", err, err, err)
	}
	if holdsSecret(text) {
		t.Errorf("the error holds a secret: %s", text)
	}
}

// newCA makes a CA below a parent, or a self-signed one.
func newCA(t *testing.T, parent *tls.Certificate) tls.Certificate {
	return sign(t, parent, &x509.Certificate{
		Subject: pkix.Name{CommonName: "k3s-server-ca"}, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	})
}

// issue makes a server certificate for 127.0.0.1, with changes.
func issue(t *testing.T, ca tls.Certificate, changes ...func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "k3s", Organization: []string{"k3s"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, change := range changes {
		change(template)
	}
	return sign(t, &ca, template)
}

func sign(t *testing.T, parent *tls.Certificate, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent = &tls.Certificate{Leaf: template, PrivateKey: key}
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Leaf, &key.PublicKey, parent.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// bundle is what /cacerts shows of these CAs.
func bundle(cas ...tls.Certificate) []byte {
	var out []byte
	for _, ca := range cas {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Leaf.Raw})...)
	}
	return out
}

// front answers a request before the supervisor does if it returns true.
type front func(w http.ResponseWriter, r *http.Request) bool

// k3s is a supervisor that takes any credentials, or a server that pretends to be one. It
// keeps the requests that it was sent.
type k3s struct {
	certs   []tls.Certificate // of the connections in turn, the last one ever after
	bundles [][]byte          // of the downloads in turn, the last one ever after
	front   front
	rotated chan string // the new tokens

	url                    supervisor.URL
	hash                   string // of the first bundle
	connections, downloads atomic.Int32
	mu                     sync.Mutex
	requests               strings.Builder
}

// start runs the server until the test ends, with a CA of its own if it has none.
func (k *k3s) start(t *testing.T) *k3s {
	t.Helper()
	if k.bundles == nil {
		ca := newCA(t, nil)
		k.bundles = [][]byte{bundle(ca)}
		k.certs = []tls.Certificate{issue(t, ca)}
	}
	k.rotated = make(chan string, 9)
	k.hash, _ = token.CAHash(k.bundles[0], time.Now())
	server := httptest.NewUnstartedServer(k)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{k.certs[min(int(k.connections.Add(1)), len(k.certs))-1]}}, nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	k.url = parseURL(t, server.URL)
	return k
}

func (k *k3s) sawNothing(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if text := k.requests.String(); strings.Contains(text, "Authorization") || holdsSecret(text) {
		t.Errorf("the server was sent credentials:\n%s", text)
	}
}

func (k *k3s) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	k.mu.Lock()
	k.requests.Write(dump)
	k.mu.Unlock()
	if k.front == nil || !k.front(w, r) {
		k.answer(w, r)
	}
}

func (k *k3s) answer(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/cacerts":
		_, _ = w.Write(k.bundles[min(int(k.downloads.Add(1)), len(k.bundles))-1])
	case r.Header.Get("Authorization") == "":
		sendStatus(w, http.StatusForbidden, "forbidden")
	case r.URL.Path == "/v1-k3s/token" && r.Method == http.MethodPut:
		var body struct{ NewToken *string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		k.rotated <- *body.NewToken // K3s panics too if there is none
	case r.URL.Path == "/v1-k3s/token":
		sendStatus(w, http.StatusMethodNotAllowed, "the server does not allow this method on the requested resource")
	case r.URL.Path != "/v1-k3s/readyz":
		http.NotFound(w, r)
	}
}

func sendStatus(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "message": message, "code": code})
}

// hijack writes on the connection itself, and closes it.
func hijack(w http.ResponseWriter, raw string) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
}

func parseURL(t *testing.T, s string) supervisor.URL {
	t.Helper()
	u, err := supervisor.ParseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// parse returns the token with a CA hash.
func parse(t *testing.T, hash, credentials string) token.Token {
	t.Helper()
	parsed, err := token.Parse(credentials)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.WithCAHash(hash)
}

// quick are options that do not wait between attempts.
func quick() supervisor.Options {
	return supervisor.Options{Timeout: 20 * time.Second, Backoff: wait.Backoff{Steps: 4}}
}

// connect connects with the server token.
func (k *k3s) connect(t *testing.T, opts supervisor.Options) *supervisor.Session {
	t.Helper()
	s, err := supervisor.Connect(t.Context(), k.url, parse(t, k.hash, serverPassword), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
