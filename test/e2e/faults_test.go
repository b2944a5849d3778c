package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	expiresBefore = "2031-01-01T00:00:00Z"
	expiresAfter  = "2032-02-02T00:00:00Z"
)

// A writer is a command over tokens, and the truth that it has to tell however
// it ends: what it says was done was done, and what nobody knows is named.
type writer struct {
	method string // of the request by which it does its work
	before int    // tokens that are there before
	count  int    // tokens that it works on
	args   func(before []string) []string
	check  func(r *ending)
}

// ending is how a run of a writer ended.
type ending struct {
	result
	before []string
	after  map[string]corev1.Secret
	count  int
	wrong  []string
}

func (e *ending) errorf(format string, args ...any) {
	e.wrong = append(e.wrong, fmt.Sprintf(format, args...))
}

func (e *ending) interrupted() bool { return e.exitCode > 128 }

// told tells whether the user is told of the token. After an interrupt, those
// that were left as they were are counted, not named.
func (e *ending) told(id string, untouched bool) bool {
	return strings.Contains(e.stderr, id) || untouched && e.interrupted()
}

var (
	printedToken  = regexp.MustCompile(`(?m)^K10[0-9a-f]{64}::([a-z0-9]{6})\.([a-z0-9]{16})$`)
	deletedToken  = regexp.MustCompile(`(?m)^bootstrap token "([a-z0-9]{6})" deleted$`)
	extendedToken = regexp.MustCompile(`(?m)^bootstrap token "([a-z0-9]{6})" expires at ` + expiresAfter + `$`)
)

// said returns the ids that standard output names by the pattern, each with the
// last part of the match. Nothing else is there.
func (e *ending) said(pattern *regexp.Regexp) map[string]string {
	found := map[string]string{}
	for _, match := range pattern.FindAllStringSubmatch(e.stdout, -1) {
		found[match[1]] = match[len(match)-1]
	}
	if lines := strings.Count(e.stdout, "\n"); lines != len(found) {
		e.errorf("%d lines are on stdout, and %d say what was done", lines, len(found))
	}
	if done := len(found) == e.count; done != (e.exitCode == 0) {
		e.errorf("%d of %d tokens are said to be done, exit code %d", len(found), e.count, e.exitCode)
	}
	return found
}

// checkCreated: the cluster has the tokens that were printed, and no other that
// the user was not told of.
func checkCreated(e *ending) {
	printed := e.said(printedToken)
	for id, secret := range printed {
		if string(e.after[id].Data["token-secret"]) != secret {
			e.errorf("token %s was printed, and the cluster does not have it", id)
		}
	}
	for id := range e.after {
		if _, ok := printed[id]; !ok && !e.told(id, false) {
			e.errorf("the cluster has token %s, which nobody was told of", id)
		}
	}
}

// checkDeleted: the tokens that are said to be deleted are gone, and the user is
// told of the rest.
func checkDeleted(e *ending) {
	deleted := e.said(deletedToken)
	for _, id := range e.before {
		_, said := deleted[id]
		_, there := e.after[id]
		if said && there || !said && !e.told(id, there) {
			e.errorf("token %s is said to be deleted: %v, and it is there: %v", id, said, there)
		}
	}
}

// checkExtended is checkDeleted for the expiry.
func checkExtended(e *ending) {
	extended := e.said(extendedToken)
	for _, id := range e.before {
		_, said := extended[id]
		secret := e.after[id]
		expires := string(secret.Data["expiration"])
		untouched := expires == expiresBefore
		if said && untouched || !said && !e.told(id, untouched) || !untouched && expires != expiresAfter {
			e.errorf("token %s is said to be extended: %v, and it ends at %q", id, said, expires)
		}
	}
}

// writers are the commands that write, over some tokens or over many.
func writers(some int) map[string]writer {
	return map[string]writer{
		"create": {method: http.MethodPost, count: some, check: checkCreated, args: func([]string) []string {
			return []string{"create", "--count", strconv.Itoa(some)}
		}},
		"delete": {method: http.MethodDelete, before: some, count: some, check: checkDeleted, args: func(before []string) []string {
			return append([]string{"delete"}, before...)
		}},
		"extend": {method: http.MethodPatch, before: some, count: some, check: checkExtended, args: func(before []string) []string {
			return append([]string{"extend", "--expires-at", expiresAfter}, before...)
		}},
	}
}

// begin fills the cluster and returns a run of the writer that has not begun,
// with the function that waits for it and checks it.
func (w writer) begin(t *testing.T, server *k3stest.Server, kubeconfig string) (*run, func() *ending) {
	t.Helper()
	e := &ending{count: w.count}
	if w.before > 0 {
		e.before = createTokens(t, server, w.before)
	} else {
		deleteTokens(t, server)
	}
	r := newRun(t, kubeconfig, w.args(e.before)...)
	return r, func() *ending {
		t.Helper()
		e.result, e.after = r.end(), storedTokens(t, server)
		w.check(e)
		if strings.Contains(e.stderr, "panic") || secretPatterns[0].MatchString(e.stderr) {
			e.errorf("there is a panic or a secret on stderr")
		}
		if e.exitCode == 1 && e.stderr == "" {
			e.errorf("it does not say what went wrong")
		}
		if len(e.wrong) > 0 {
			t.Errorf("%s\nexit code %d after %v; stderr:\n%.2000s", strings.Join(e.wrong[:min(3, len(e.wrong))], "\n"), e.exitCode, e.took, redact(e.stderr))
		}
		return e
	}
}

// A spoiler answers a request in the server's place, or has it carried out.
type spoiler func(w http.ResponseWriter, r *http.Request, forward http.Handler)

// TestLostAnswers has something between the plugin and the cluster spoil each
// request that writes, before or after the cluster has carried it out.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	abort := func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
	status := func(code int) spoiler {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(code) }
	}
	page := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>Log in</html>")
	}
	redirect := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "/login", http.StatusFound)
	}
	after := func(answer spoiler) spoiler {
		return func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(discard{http.Header{}}, r)
			answer(w, r, forward)
		}
	}
	for name, fault := range map[string]struct {
		write spoiler
		look  spoiler // at other requests from then on
	}{
		"cut before it is carried out": {write: abort},
		"refused":                      {write: status(http.StatusForbidden)},
		"a page":                       {write: page},
		"a redirect":                   {write: redirect},
		"carried out, cut":             {write: after(abort)},
		"carried out, 503":             {write: after(status(http.StatusServiceUnavailable))},
		"carried out, a page":          {write: after(page)},
		"carried out, cut, and the look is refused": {write: after(abort), look: status(http.StatusForbidden)},
		"everything is a page":                      {write: page, look: page},
	} {
		t.Run(name, func(t *testing.T) {
			server := borrowServer(t)
			for verb, w := range writers(3) {
				t.Run(verb, func(t *testing.T) {
					var written atomic.Bool
					proxy, err := startBetween(server, func(out http.ResponseWriter, r *http.Request, forward http.Handler) {
						switch {
						case r.URL.Path == "/login":
							out.Header().Set("Content-Type", "application/json")
							_, _ = io.WriteString(out, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
						case r.Method == w.method:
							written.Store(true)
							fault.write(out, r, forward)
						case written.Load() && fault.look != nil:
							fault.look(out, r, forward)
						default:
							forward.ServeHTTP(out, r)
						}
					})
					if err != nil {
						t.Fatal(err)
					}
					defer proxy.Close()
					r, end := w.begin(t, server, kubeconfigAt(t, server, proxy.URL, proxy.ca()))
					r.begin()
					if e := end(); !written.Load() {
						t.Errorf("nothing was written: exit code %d: %s", e.exitCode, e.stderr)
					}
				})
			}
		})
	}
}

// discard is an answer that is lost.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// TestARequestThatArrivesLate has the cluster carry out a create after its
// answer was lost.
func TestARequestThatArrivesLate(t *testing.T) {
	server := borrowServer(t)
	w := writers(1)["create"]
	arrived := make(chan struct{})
	proxy, err := startBetween(server, func(out http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.Method != http.MethodPost {
			forward.ServeHTTP(out, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		late := r.Clone(t.Context())
		late.Body = io.NopCloser(strings.NewReader(string(body)))
		time.AfterFunc(700*time.Millisecond, func() {
			defer close(arrived)
			forward.ServeHTTP(discard{http.Header{}}, late)
		})
		panic(http.ErrAbortHandler)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	r, end := w.begin(t, server, kubeconfigAt(t, server, proxy.URL, proxy.ca()))
	r.begin()
	<-arrived
	end()
}

// TestBrokenConnections breaks the bytes between plugin and server: at places
// all over the connection, or from the start.
func TestBrokenConnections(t *testing.T) {
	const down, up = "downstream", "upstream"
	faults := map[string]toxic{
		"nothing comes back":  {"timeout", down, map[string]any{"timeout": 0}},
		"reset by the answer": {"reset_peer", down, map[string]any{"timeout": 50}},
	}
	for range campaign(t, 1) {
		sent, received := rand.IntN(6000), rand.IntN(9000)
		faults[fmt.Sprintf("cut after %d bytes sent", sent)] = toxic{"limit_data", up, map[string]any{"bytes": sent}}
		faults[fmt.Sprintf("cut after %d bytes received", received)] = toxic{"limit_data", down, map[string]any{"bytes": received}}
	}
	server := borrowServer(t)
	for name, fault := range faults {
		for verb, w := range writers(3) {
			t.Run(name+"/"+verb, func(t *testing.T) {
				address := startToxic(t, server, fault)
				r, end := w.begin(t, server, kubeconfigFor(t, server, func(cluster *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) { cluster.Server = address }))
				r.Args = append(r.Args, "--request-timeout=2s")
				r.begin()
				end()
			})
		}
	}
}

// TestAServerThatIsKilled kills the server in the middle of commands over many
// tokens, and starts it again.
func TestAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	server := startOwn(t, k3stest.Options{})
	for range campaign(t, 1) {
		for verb, w := range writers(300) {
			r, end := w.begin(t, server, server.Kubeconfig)
			before := w.progress(t, server)
			r.begin()
			awaitTrue(t, verb+" has begun", func() bool { return w.progress(t, server) != before })
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			e := end()
			t.Logf("%s: exit code %d after %v, %d lines on stdout, %d tokens left", verb, e.exitCode, e.took, strings.Count(e.stdout, "\n"), len(e.after))
		}
	}
}

// progress is how much of the writer's work is done: the number of tokens, or of
// those that are extended.
func (w writer) progress(t *testing.T, server *k3stest.Server) int {
	t.Helper()
	done := 0
	for _, secret := range storedTokens(t, server) {
		if w.method != http.MethodPatch || string(secret.Data["expiration"]) == expiresAfter {
			done++
		}
	}
	return done
}

// TestInterruptedWriters ends the commands that write by a signal when they
// have begun to, and in a campaign at any moment.
func TestInterruptedWriters(t *testing.T) {
	server := borrowServer(t)
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	for verb, w := range writers(1000) {
		t.Run(verb, func(t *testing.T) {
			for i := range campaign(t, 1) {
				signal := signals[(i+len(verb))%len(signals)]
				r, end := w.begin(t, server, server.Kubeconfig)
				before := w.progress(t, server)
				r.begin()
				if os.Getenv("K3STOKEN_CAMPAIGN") != "" {
					time.Sleep(rand.N(2 * time.Second))
				} else {
					awaitTrue(t, verb+" has begun", func() bool { return w.progress(t, server) != before })
				}
				r.signal(signal)
				e := end()
				if e.exitCode != 0 && e.exitCode != 128+int(signal) {
					t.Errorf("exit code %d after %v; stderr:\n%.2000s", e.exitCode, signal, redact(e.stderr))
				}
				t.Logf("%v: exit code %d after %v", signal, e.exitCode, e.took)
			}
		})
	}
}
