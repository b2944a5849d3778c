package e2e

import (
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	expiresBefore = "2031-01-01T00:00:00Z"
	expiresAfter  = "2032-02-02T00:00:00Z"
)

// A writer is a command that changes tokens.
type writer struct {
	verb   string
	flags  []string
	method string // of the request by which it changes one
	// done reports whether the token of a Secret is as the command makes it; a zero
	// Secret is one that is not there.
	done      func(secret corev1.Secret) bool
	interrupt syscall.Signal // that ends it in TestInterruptedWriters
}

var writers = []writer{
	{"create", nil, http.MethodPost, func(s corev1.Secret) bool { return s.Name != "" }, syscall.SIGINT},
	{"delete", nil, http.MethodDelete, func(s corev1.Secret) bool { return s.Name == "" }, syscall.SIGTERM},
	{"extend", []string{"--expires-at", expiresAfter}, http.MethodPatch, func(s corev1.Secret) bool {
		return string(s.Data["expiration"]) == expiresAfter
	}, syscall.SIGHUP},
}

// job is a run of a writer over the tokens of a cluster.
type job struct {
	*run
	writer
	server *k3stest.Server
	count  int
	before []string // the tokens that are there before
}

// prepare fills the cluster for a run of the writer over so many tokens.
func (w writer) prepare(t *testing.T, server *k3stest.Server, count int, flags ...string) *job {
	t.Helper()
	j := &job{writer: w, server: server, count: count}
	args := slices.Concat([]string{w.verb}, w.flags, flags)
	if w.verb == "create" {
		deleteTokens(t, server)
		args = append(args, "--count", strconv.Itoa(count))
	} else {
		j.before = createTokens(t, server, count)
		args = append(args, j.before...)
	}
	j.run = newRun(t, server.Kubeconfig, args...)
	return j
}

// hasBegun reports whether the cluster has a token that the job has changed.
func (j *job) hasBegun() bool {
	after := storedTokens(j.t, j.server)
	ids := slices.AppendSeq(slices.Clone(j.before), maps.Keys(after))
	return slices.ContainsFunc(ids, func(id string) bool { return j.done(after[id]) })
}

// reported is a line of standard output that says that a token was changed.
var reported = regexp.MustCompile(`(?m)^(?:K10[0-9a-f]{64}::|bootstrap token ")([a-z0-9]{6})\b.*$`)

// finish waits for the end of the run, and checks its report. Each reported change was
// made, and every other token is named on standard error. An interrupted run may count
// those that it left as they were.
func (j *job) finish() result {
	j.t.Helper()
	got, after := j.end(), storedTokens(j.t, j.server)
	said := map[string]bool{}
	for _, match := range reported.FindAllStringSubmatch(got.stdout, -1) {
		said[match[1]] = true
	}
	if strings.Count(got.stdout, "\n") != len(said) || (len(said) == j.count) != (got.exitCode == 0) {
		j.t.Errorf("%d of %d tokens are said to be done, exit code %d", len(said), j.count, got.exitCode)
	}
	ids := slices.AppendSeq(slices.Clone(j.before), maps.Keys(said))
	for _, id := range slices.AppendSeq(ids, maps.Keys(after)) {
		done := j.done(after[id])
		told := strings.Contains(got.stderr, id) || !done && got.exitCode > 128
		if said[id] && !done || !said[id] && !told {
			j.t.Fatalf("%s of %s is said to be done: %v, it is done: %v; exit code %d:\n%.2000s",
				j.verb, id, said[id], done, got.exitCode, redact(got.stderr))
		}
	}
	if strings.Contains(got.stderr, "panic") || redact(got.stderr) != got.stderr {
		j.t.Error("there is a panic or a secret on stderr")
	}
	return got
}

// TestLostAnswers has something between the plugin and the cluster spoil the
// answer to each request that writes.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	cut := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	page := func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>Log in</html>") }
	half := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"boot`)
		_ = http.NewResponseController(w).Flush()
		cut(w)
	}
	refuse := func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }
	for name, fault := range map[string]struct {
		carriedOut   bool
		answer, look func(http.ResponseWriter) // look answers later requests
	}{
		"cut before it is carried out":             {false, cut, nil},
		"carried out, cut":                         {true, cut, nil},
		"carried out, half of the answer":          {true, half, nil},
		"carried out, a page":                      {true, page, nil},
		"carried out, cut, and the look is denied": {true, cut, refuse},
	} {
		t.Run(name, func(t *testing.T) {
			server := plain.borrow(t)
			for _, w := range writers {
				var written atomic.Bool
				proxy, err := startBetween(server, func(out http.ResponseWriter, r *http.Request, forward http.Handler) {
					switch {
					case r.Method == w.method:
						written.Store(true)
						if fault.carriedOut {
							forward.ServeHTTP(httptest.NewRecorder(), r)
						}
						fault.answer(out)
					case written.Load() && fault.look != nil:
						fault.look(out)
					default:
						forward.ServeHTTP(out, r)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(proxy.Close)
				j := w.prepare(t, server, 3, proxy.flags(t)...)
				j.begin()
				if got := j.finish(); !written.Load() {
					t.Errorf("%s writes nothing: exit code %d: %s", w.verb, got.exitCode, got.stderr)
				}
				if left := storedTokens(t, server); w.verb == "create" && fault.look == nil && len(left) > 0 {
					t.Errorf("create does not remove %d tokens", len(left))
				}
			}
		})
	}
}

// TestAServerThatIsKilled kills the server in the middle of a create, and starts
// it again.
func TestAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	server := startOwn(t, k3stest.Options{})
	for range campaign(t, 1) {
		j := writers[0].prepare(t, server, 300)
		j.begin()
		awaitTrue(t, "a token is there", j.hasBegun)
		server.Kill()
		restartWith(t, server, "")
		t.Logf("exit code %d", j.finish().exitCode)
	}
}

// TestInterruptedWriters ends the commands that write by a signal when they
// have begun to, and in a campaign at any moment.
func TestInterruptedWriters(t *testing.T) {
	server := plain.borrow(t)
	for _, w := range writers {
		for range campaign(t, 1) {
			j := w.prepare(t, server, 500)
			j.begin()
			if inCampaign() {
				time.Sleep(rand.N(2 * time.Second))
			} else {
				awaitTrue(t, w.verb+" has begun", j.hasBegun)
			}
			j.signal(w.interrupt)
			j.signal(w.interrupt) // as timeout(1) does
			got := j.finish()
			if got.exitCode != 0 && got.exitCode != 128+int(w.interrupt) {
				t.Errorf("%s: exit code %d after %v; stderr:\n%.2000s", w.verb, got.exitCode, w.interrupt, redact(got.stderr))
			}
			t.Logf("%s, %v: exit code %d", w.verb, w.interrupt, got.exitCode)
		}
	}
}
