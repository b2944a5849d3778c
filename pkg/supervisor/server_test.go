package supervisor_test

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
	wrongPassword  = "0badf00d0badf00d0badf00d0badf00d"
	bootstrapToken = "abcdef.0123456789abcdef"

	nobody = "https://127.0.0.1:1" // nothing listens there
)

// joining is one token of each kind, without CA hash, and the role that it is for.
var joining = map[string]supervisor.Role{
	"server:" + serverPassword: supervisor.Server, "node:" + agentPassword: supervisor.Agent, bootstrapToken: supervisor.Agent,
}

// holdsSecret reports whether a text holds a secret in any form that a client
// sends.
func holdsSecret(text string) bool {
	for _, secret := range []string{serverPassword, agentPassword, newPassword[:14], wrongPassword, bootstrapToken, bootstrapToken[7:]} {
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

// witness keeps the requests that servers were sent.
type witness struct {
	mu       sync.Mutex
	requests strings.Builder
}

func (w *witness) saw(r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests.Write(dump)
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests.String()
}

func (w *witness) sawNothing(t *testing.T) {
	t.Helper()
	if text := w.text(); strings.Contains(text, "Authorization") || holdsSecret(text) {
		t.Errorf("the server was sent credentials:\n%s", text)
	}
}

// serve runs a handler behind TLS until the test ends, with the certificate that
// pick returns for the n-th connection.
func serve(t *testing.T, w *witness, handler http.Handler, pick func(n int) tls.Certificate) supervisor.URL {
	t.Helper()
	var n atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.saw(r)
		handler.ServeHTTP(rw, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{pick(int(n.Add(1)))}}, nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return parseURL(t, server.URL)
}

// serveTCP hands each connection to a function until the test ends.
func serveTCP(t *testing.T, talk func(net.Conn)) supervisor.URL {
	t.Helper()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = tcp.Close()
		running.Wait()
	})
	return parseURL(t, "https://"+tcp.Addr().String())
}

// relay passes bytes on between a client and a server.
func relay(t *testing.T, client net.Conn, server supervisor.URL) {
	upstream, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(server.String(), "https://"))
	if err != nil {
		t.Error(err)
		return
	}
	go func() { _, _ = io.Copy(client, upstream) }()
	_, _ = io.Copy(upstream, client)
	_ = upstream.Close()
}

// startProxy starts an HTTP proxy that leads to one server, whoever is asked for.
func startProxy(t *testing.T, w *witness, server supervisor.URL) supervisor.URL {
	return serveTCP(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil || r.Method != http.MethodConnect {
			return
		}
		w.saw(r)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		relay(t, conn, server)
	})
}

// through has all requests go through a proxy.
func through(proxy string) func(*http.Request) (*url.URL, error) {
	return http.ProxyURL(&url.URL{Scheme: "http", Host: strings.TrimPrefix(proxy, "https://")})
}

func always(cert tls.Certificate) func(int) tls.Certificate {
	return func(int) tls.Certificate { return cert }
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

// k3s is a supervisor that answers by the rules of the real one: HasRole and
// router in K3s's pkg/server, and what was measured on v1.31.1+k3s1.
type k3s struct {
	program  string // k3s if empty
	bundle   []byte
	hash     string
	ownAgent bool        // has an agent token, so that the server's joins no agents
	older    bool        // answers 400 instead of 405
	rotated  chan string // the new tokens
}

// newK3s starts a supervisor with a CA of its own. If front is set, it sees each
// request first, and reports whether it has answered.
func newK3s(t *testing.T, k *k3s, front func(http.ResponseWriter, *http.Request) bool) (supervisor.URL, *witness) {
	t.Helper()
	ca, w := newCA(t, nil), &witness{}
	k.bundle, k.rotated = bundle(ca), make(chan string, 9)
	k.hash = hashOf(t, k.bundle)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if front == nil || !front(w, r) {
			k.ServeHTTP(w, r)
		}
	})
	return serve(t, w, handler, always(issue(t, ca))), w
}

func (k *k3s) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	program := cmp.Or(k.program, "k3s")
	switch role := k.role(r); r.URL.Path {
	case "/cacerts":
		_, _ = w.Write(k.bundle)
	case "/v1-" + program + "/readyz":
		k.authorize(w, role, "agent", "bootstrappers")
	case "/v1-" + program + "/token":
		switch {
		case !k.authorize(w, role, "server"):
		case r.Method == http.MethodPut:
			var body struct{ NewToken *string }
			_ = json.NewDecoder(r.Body).Decode(&body)
			k.rotated <- *body.NewToken // K3s panics too if there is none
		case k.older:
			w.WriteHeader(http.StatusBadRequest)
		default:
			sendStatus(w, http.StatusMethodNotAllowed, "the server does not allow this method on the requested resource")
		}
	default:
		sendStatus(w, http.StatusUnauthorized, "Unauthorized") // the Kubernetes API
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

func (k *k3s) authorize(w http.ResponseWriter, role string, roles ...string) bool {
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
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, raw)
	_ = conn.Close()
}
