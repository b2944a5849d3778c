package supervisor

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	serverPassword = "f00dcafe5ec2e7f00dcafe5ec2e70001"
	agentPassword  = "a9e27a9e27a9e27a9e27a9e27a9e2702"
	bootstrapToken = "abcdef.0123456789abcdef"
	noGroupToken   = "fedcba.0123456789abcdef"
	wrongPassword  = "0badf00d0badf00d0badf00d0badf00d"
)

// secrets are what no test may find in an error, and no hostile server in what
// it receives.
var secrets = []string{serverPassword, agentPassword, bootstrapToken, noGroupToken, wrongPassword, bootstrapToken[7:]}

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		code = leakedGoroutines()
	}
	os.Exit(code)
}

// leakedGoroutines waits for what is still ending, and fails if something
// does not.
func leakedGoroutines() int {
	var stacks []string
	for range 50 {
		buffer := make([]byte, 1<<20)
		buffer = buffer[:runtime.Stack(buffer, true)]
		stacks = slices.DeleteFunc(strings.Split(string(buffer), "\n\n"), func(s string) bool {
			return !strings.Contains(s, "net/http.") && !strings.Contains(s, "pkg/supervisor.(")
		})
		if len(stacks) == 0 {
			return 0
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "goroutines that do not end:\n%s\n", strings.Join(stacks, "\n\n"))
	return 1
}

// witness keeps every byte that a server was sent, after decryption.
type witness struct {
	mu       sync.Mutex
	received bytes.Buffer
	count    int
}

func (w *witness) add(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received.Write(b)
}

// connection counts a connection, from 1.
func (w *witness) connection() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	return w.count
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.received.String()
}

// sawNothing fails the test if the server was sent anything secret.
func (w *witness) sawNothing(t *testing.T) {
	t.Helper()
	text := w.text()
	if strings.Contains(strings.ToLower(text), "authorization") || holdsSecret(text) {
		t.Errorf("the server was sent credentials:\n%s", text)
	}
}

func holdsSecret(text string) bool {
	for _, secret := range secrets {
		forms := []string{secret}
		for _, user := range []string{"", "server:", "node:"} {
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte(user+secret)))
		}
		for _, form := range forms {
			if strings.Contains(text, form) {
				return true
			}
		}
	}
	return false
}

// noSecretIn fails the test if an error says, anywhere in its chain, something
// secret.
func noSecretIn(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); holdsSecret(text) {
		t.Errorf("the error holds a secret: %s", text)
	}
	switch e := err.(type) { //nolint:errorlint // walks the chain
	case interface{ Unwrap() error }:
		noSecretIn(t, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			noSecretIn(t, err)
		}
	}
}

// watched is a listener whose connections tell the witness what they read.
type watched struct {
	net.Listener
	witness *witness
}

type watchedConn struct {
	net.Conn
	witness *witness
}

func (l watched) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return watchedConn{conn, l.witness}, nil
}

func (c watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.witness.add(b[:n])
	return n, err
}

// serve runs a handler behind TLS with the certificate that pick returns for
// the n-th connection, until the test ends.
func serve(t *testing.T, handler http.Handler, pick func(n int) tls.Certificate) (URL, *witness) {
	t.Helper()
	w := &witness{}
	tcp := listen(t)
	secure := tls.NewListener(tcp, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := pick(w.connection())
			return &cert, nil
		},
	})
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(watched{secure, w})
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return address(t, tcp), w
}

// serveRaw hands each connection to a function, until the test ends.
func serveRaw(t *testing.T, talk func(net.Conn)) (URL, *witness) {
	t.Helper()
	w := &witness{}
	tcp := listen(t)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := watched{tcp, w}.Accept()
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
	return address(t, tcp), w
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return tcp
}

func address(t *testing.T, l net.Listener) URL {
	t.Helper()
	u, err := ParseURL("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func always(cert tls.Certificate) func(int) tls.Certificate {
	return func(int) tls.Certificate { return cert }
}

// k3s is a supervisor that answers by the rules of the real one: HasRole and
// router in K3s's pkg/server, and what was measured on v1.31.1+k3s1.
type k3s struct {
	program  string
	bundle   []byte
	ownAgent bool // has an agent token, so that the server's joins no agents
	older    bool // answers 400 instead of 405
	starting bool // cannot authenticate anybody yet
	notReady bool // runtime core not ready

	mu       sync.Mutex
	newToken string // the last one it was given
	rotated  int
}

func (k *k3s) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prefix := "/v1-" + k.program
	switch r.URL.Path {
	case "/cacerts":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(k.bundle)
	case "/ping":
		_, _ = io.WriteString(w, "pong")
	case prefix + "/readyz":
		k.as(w, r, []string{"agent", "bootstrappers"}, func() {
			if k.notReady {
				sendStatus(w, http.StatusServiceUnavailable, "runtime core not ready")
				return
			}
			_, _ = io.WriteString(w, "ok")
		})
	case prefix + "/token":
		k.as(w, r, []string{"server"}, func() { k.token(w, r) })
	default:
		sendStatus(w, http.StatusUnauthorized, "Unauthorized") // the Kubernetes API
	}
}

func (k *k3s) token(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		if k.older {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		sendStatus(w, http.StatusMethodNotAllowed, "the server does not allow this method on the requested resource")
		return
	}
	var body struct{ NewToken *string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		sendStatus(w, http.StatusBadRequest, err.Error())
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newToken = *body.NewToken
	k.rotated++
}

func (k *k3s) rotations() (int, string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rotated, k.newToken
}

// as is HasRole.
func (k *k3s) as(w http.ResponseWriter, r *http.Request, roles []string, next func()) {
	role, known := "", true
	if user, password, ok := r.BasicAuth(); ok {
		role = map[string]string{"server" + serverPassword: "server", "node" + serverPassword: "agent", "node" + agentPassword: "agent"}[user+password]
		if k.ownAgent && role == "agent" && password == serverPassword {
			role = ""
		}
		known = role != ""
	} else if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		role = map[string]string{bootstrapToken: "bootstrappers", noGroupToken: "authenticated"}[bearer]
		known = role != ""
	}
	switch {
	case k.starting || !known:
		sendStatus(w, http.StatusUnauthorized, "not authorized")
	case !slices.Contains(roles, role):
		sendStatus(w, http.StatusForbidden, "forbidden")
	default:
		next()
	}
}

func sendStatus(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "status": "Failure", "message": message, "code": code})
}

// newK3s starts a supervisor with a CA of its own.
func newK3s(t *testing.T) (*k3s, *authority, URL, *witness) {
	t.Helper()
	ca := newCA(t, "k3s-server-ca", nil)
	k := &k3s{program: "k3s", bundle: bundle(ca)}
	u, w := serve(t, k, always(ca.issue(t, leaf{})))
	return k, ca, u, w
}

// quick are options for a test: no waiting between tries.
func quick(hash string) Options {
	return Options{
		CAHash: hash, Timeout: 30 * time.Second, RotateTimeout: 30 * time.Second,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

func parse(t testing.TB, s string) token.Token {
	t.Helper()
	parsed, err := token.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
