package supervisor_test

import (
	"cmp"
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
	"slices"
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

// holdsSecret reports whether a text holds a secret in any form that a client
// sends.
func holdsSecret(text string) bool {
	for _, secret := range []string{serverPassword, agentPassword, newPassword[:14], bootstrapToken, bootstrapToken[7:]} {
		forms := []string{secret}
		for _, user := range []string{"", "server:", "node:"} {
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(user+secret)))
		}
		if slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) }) {
			return true
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

// identity is a certificate with its key.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newCA makes a CA below a parent, or a self-signed one.
func newCA(t *testing.T, parent *identity) *identity {
	return sign(t, parent, &x509.Certificate{
		Subject: pkix.Name{CommonName: "k3s-server-ca"}, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	})
}

// issue makes a server certificate for 127.0.0.1, with changes.
func issue(t *testing.T, ca *identity, changes ...func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "k3s", Organization: []string{"k3s"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, change := range changes {
		change(template)
	}
	leaf := sign(t, ca, template)
	return tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}
}

func sign(t *testing.T, parent *identity, template *x509.Certificate) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent = &identity{template, key}
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{cert, key}
}

// bundle is what /cacerts shows of these CAs.
func bundle(cas ...*identity) []byte {
	var out []byte
	for _, ca := range cas {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})...)
	}
	return out
}

// front answers a request before the supervisor does if it returns true.
type front func(w http.ResponseWriter, r *http.Request) bool

// k3s is a supervisor that answers by the rules of the real one (HasRole and router in
// K3s's pkg/server), or one that pretends to be. It keeps the requests that it was sent.
// Each request has a connection of its own.
type k3s struct {
	program  string            // k3s if empty
	certs    []tls.Certificate // of the connections in turn, the last one ever after
	bundles  [][]byte          // of the downloads in turn, the last one ever after
	front    front
	ownAgent bool        // has an agent token, so that the server's joins no agents
	older    bool        // answers 400 instead of 405
	rotated  chan string // the new tokens

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
		k.certs = []tls.Certificate{issue(t, ca, func(c *x509.Certificate) { c.Subject.Organization = []string{k.program} })}
	}
	k.rotated = make(chan string, 9)
	k.hash, _ = token.CAHash(k.bundles[0], time.Now())
	server := httptest.NewUnstartedServer(k)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.SetKeepAlivesEnabled(false)
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
	program := "/v1-" + cmp.Or(k.program, "k3s")
	switch role := k.role(r); r.URL.Path {
	case "/cacerts":
		_, _ = w.Write(k.bundles[min(int(k.downloads.Add(1)), len(k.bundles))-1])
	case program + "/readyz":
		authorize(w, role, "agent", "bootstrappers")
	case program + "/token":
		switch {
		case !authorize(w, role, "server"):
		case r.Method == http.MethodPut:
			var body struct{ NewToken *string }
			_ = json.NewDecoder(r.Body).Decode(&body)
			k.rotated <- *body.NewToken // K3s panics too if there is none
		case k.older:
			w.WriteHeader(http.StatusBadRequest)
		default:
			sendStatus(w, http.StatusMethodNotAllowed, "the server does not allow this method on the requested resource")
		}
	}
}

// role returns whom the credentials of a request are for.
func (k *k3s) role(r *http.Request) string {
	roles := map[string]string{
		"server:" + serverPassword: "server", "node:" + serverPassword: "agent", "node:" + agentPassword: "agent",
		bootstrapToken: "bootstrappers", "": "anonymous",
	}
	if k.ownAgent {
		delete(roles, "node:"+serverPassword)
	}
	if user, password, ok := r.BasicAuth(); ok {
		return roles[user+":"+password]
	}
	return roles[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
}

func authorize(w http.ResponseWriter, role string, roles ...string) bool {
	switch {
	case role == "":
		sendStatus(w, http.StatusUnauthorized, "not authorized")
	case !slices.Contains(roles, role):
		sendStatus(w, http.StatusForbidden, "forbidden")
	}
	return slices.Contains(roles, role)
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

func parse(t *testing.T, s string) token.Token {
	t.Helper()
	parsed, err := token.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// quick are options that do not wait between attempts.
func quick(hash string) supervisor.Options {
	return supervisor.Options{CAHash: hash, Timeout: 20 * time.Second, Backoff: wait.Backoff{Steps: 4}}
}

// verify has a node join in a role, with the CA hash of the options.
func verify(t *testing.T, u supervisor.URL, credentials string, role supervisor.Role, opts supervisor.Options) supervisor.Report {
	t.Helper()
	opts.Role = role
	return supervisor.Verify(t.Context(), u, parse(t, credentials).WithCAHash(opts.CAHash), opts)
}

func connect(t *testing.T, u supervisor.URL, opts supervisor.Options) *supervisor.Session {
	t.Helper()
	s, err := supervisor.Connect(t.Context(), u, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
