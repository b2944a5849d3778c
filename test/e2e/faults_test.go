package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/faultproxy"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	// faultsAtOnce is how many faults are tried at the same time. Most of the
	// time they wait.
	faultsAtOnce = 20

	// faultBound is how long the plugin may take with any fault and no
	// --request-timeout, where pings find a dead connection as fast as
	// quickPings has them do.
	faultBound = 45 * time.Second

	expiresBefore = "2031-01-01T00:00:00Z"
	expiresAfter  = "2032-02-02T00:00:00Z"
)

// quickPings has the client library look after a second or two, instead of 45,
// whether a silent server is still there.
var quickPings = []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS=1", "HTTP2_PING_TIMEOUT_SECONDS=1"}

// A fault is one way to spoil one run of the plugin.
type fault struct {
	name    string
	command faultCommand
	tcp     []faultproxy.Fault // on the bytes between plugin and server, or:
	spoil   faultproxy.Spoiler // on requests and answers
	args    []string           // beside those of the command
	// heals tells that the plugin has to do its work in spite of it.
	heals bool
	// fails tells that it cannot.
	fails bool
	// interrupt is when the plugin is sent SIGINT; 0 for never.
	interrupt time.Duration
	// late is how long after the plugin's end the cluster is looked at.
	late time.Duration
	// within is how long the plugin may take; 0 for faultBound.
	within time.Duration
}

// faultCommand is a command that is run with a fault, and what has to hold
// afterwards.
type faultCommand struct {
	verb   string
	before int // tokens that are there before
	args   func(run *faultRun) []string
	stdin  func(run *faultRun) string
	check  func(run *faultRun)
}

// faultRun is a fault that was tried.
type faultRun struct {
	result
	t      *testing.T
	fault  fault
	mark   string // the description of its tokens
	given  string // a token that the user gives
	before []string
	after  map[string]storedToken
	took   time.Duration

	failures int
}

func (r *faultRun) errorf(format string, args ...any) {
	r.t.Helper()
	if r.failures++; r.failures > 3 {
		return // of hundreds of tokens
	}
	r.t.Errorf("%s, %s: %s; exit code %d after %v, stderr:\n%.1500s", r.fault.command.verb, r.fault.name,
		fmt.Sprintf(format, args...), r.exitCode, r.took.Round(time.Millisecond), redact([]any{r.stderr})[0])
	if r.failures == 3 {
		r.t.Errorf("%s, %s: and so on", r.fault.command.verb, r.fault.name)
	}
}

// tells tells whether the user is told of the token as of one whose state is
// not known, or that is not as it should be.
func (r *faultRun) tells(id string) bool { return strings.Contains(r.stderr, id) }

// tellsUntouched tells whether the user is told of the token as of one that was
// left as it was: by its id, or, after an interrupt, by their number.
func (r *faultRun) tellsUntouched(id string) bool {
	return r.tells(id) || r.exitCode == 130 && strings.Contains(r.stderr, "left as they were")
}

var (
	printedToken   = regexp.MustCompile(`(?m)^K10[0-9a-f]{64}::([a-z0-9]{6})\.([a-z0-9]{16})$`)
	deletedToken   = regexp.MustCompile(`(?m)^bootstrap token "([a-z0-9]{6})" deleted$`)
	extendedToken  = regexp.MustCompile(`(?m)^bootstrap token "([a-z0-9]{6})" expires at ` + expiresAfter + `$`)
	listedToken    = regexp.MustCompile(`(?m)^secret/bootstrap-token-([a-z0-9]{6})$`)
	lineOfAnything = regexp.MustCompile(`(?m)^.+$`)
)

// said returns what the pattern finds on stdout, which holds nothing else, and
// nothing twice.
func (r *faultRun) said(pattern *regexp.Regexp) map[string]string {
	r.t.Helper()
	found := map[string]string{}
	matches := pattern.FindAllStringSubmatch(r.stdout, -1)
	for _, match := range matches {
		if _, twice := found[match[1]]; twice {
			r.errorf("token %s is said twice", match[1])
		}
		found[match[1]] = match[len(match)-1]
	}
	if lines := len(lineOfAnything.FindAllString(r.stdout, -1)); lines != len(matches) {
		r.errorf("%d lines of %d on stdout are not what they should be", lines-len(matches), lines)
	}
	return found
}

// creates checks that the cluster has the tokens that were printed, and no other
// that the user was not told of.
func creates(count int) func(*faultRun) {
	return func(r *faultRun) {
		printed := r.said(printedToken)
		for id, secret := range printed {
			if stored, ok := r.after[id]; !ok || stored.secret != secret {
				r.errorf("token %s was printed, and the cluster does not have it", id)
			}
		}
		for id := range r.after {
			if _, ok := printed[id]; !ok && !r.tells(id) {
				r.errorf("the cluster has token %s, which nobody was told of", id)
			}
		}
		if done := len(printed) == count; done != (r.exitCode == 0) {
			r.errorf("%d of %d tokens were printed", len(printed), count)
		}
		if left := "no token was left in the cluster that you have not seen"; strings.Contains(r.stderr, left) && len(r.after) > len(printed) && !strings.Contains(r.stderr, "it may still make one") {
			r.errorf("it says that no token was left")
		}
	}
}

// deletes checks that what is said to be deleted is gone, and that the user is
// told of the rest.
func deletes(r *faultRun) {
	deleted := r.said(deletedToken)
	for _, id := range r.before {
		_, said := deleted[id]
		_, there := r.after[id]
		switch {
		case said && there:
			r.errorf("token %s is said to be deleted, and lives", id)
		case !said && there && !r.tellsUntouched(id), !said && !there && !r.tells(id):
			r.errorf("nothing is said of token %s; it is there: %v", id, there)
		}
	}
	if done := len(deleted) == len(r.before); done != (r.exitCode == 0) {
		r.errorf("%d of %d tokens are said to be deleted", len(deleted), len(r.before))
	}
}

// extends checks that what is said to be extended is, and that the user is told
// of the rest.
func extends(r *faultRun) {
	extended := r.said(extendedToken)
	for _, id := range r.before {
		_, said := extended[id]
		switch expiration := r.after[id].expiration; {
		case expiration != expiresBefore && expiration != expiresAfter:
			r.errorf("token %s ends at %q", id, expiration)
		case said && expiration != expiresAfter:
			r.errorf("token %s is said to be extended, and is not", id)
		case !said && expiration == expiresBefore && !r.tellsUntouched(id), !said && expiration == expiresAfter && !r.tells(id):
			r.errorf("nothing is said of token %s, which ends at %s", id, expiration)
		}
	}
	if done := len(extended) == len(r.before); done != (r.exitCode == 0) {
		r.errorf("%d of %d tokens are said to be extended", len(extended), len(r.before))
	}
}

// lists checks that a list is whole, or that it failed. Other tokens may come
// and go meanwhile.
func lists(r *faultRun) {
	listed := r.said(listedToken)
	if r.exitCode != 0 {
		return
	}
	for _, id := range r.before {
		if _, ok := listed[id]; !ok {
			r.errorf("token %s is missing", id)
		}
	}
}

func ids(r *faultRun) string { return strings.Join(r.before, "\n") + "\n" }

var (
	createOne = faultCommand{
		verb:  "create",
		args:  func(r *faultRun) []string { return []string{"create", "--description", r.mark} },
		check: creates(1),
	}
	createGiven = faultCommand{
		verb:  "create -",
		args:  func(r *faultRun) []string { return []string{"create", "-", "--description", r.mark} },
		stdin: func(r *faultRun) string { return r.given + "\n" },
		check: creates(1),
	}
	createSome = faultCommand{
		verb:  "create --count",
		args:  func(r *faultRun) []string { return []string{"create", "--count", "5", "--description", r.mark} },
		check: creates(5),
	}
	deleteSome = faultCommand{
		verb:   "delete",
		before: 4,
		args:   func(*faultRun) []string { return []string{"delete", "-"} },
		stdin:  ids,
		check:  deletes,
	}
	extendSome = faultCommand{
		verb:   "extend",
		before: 4,
		args:   func(*faultRun) []string { return []string{"extend", "-", "--expires-at", expiresAfter} },
		stdin:  ids,
		check:  extends,
	}
	listInChunks = faultCommand{
		verb:   "list",
		before: 12,
		args:   func(*faultRun) []string { return []string{"list", "--chunk-size", "10", "-o", "name"} },
		check:  lists,
	}

	writers     = []faultCommand{createOne, createGiven, createSome, deleteSome, extendSome}
	allCommands = append(slices.Clone(writers), listInChunks)
)

// method is that of the request by which a command does its work.
func (c faultCommand) method() string {
	switch c.verb {
	case deleteSome.verb, "delete --all":
		return http.MethodDelete
	case extendSome.verb:
		return http.MethodPatch
	case listInChunks.verb:
		return http.MethodGet
	}
	return http.MethodPost
}

// faultBed is a server with faults in front of it.
type faultBed struct {
	server   *k3stest.Server
	upstream *tls.Config
	address  string

	mu      sync.Mutex
	longest time.Duration
}

// took remembers the longest run of the plugin.
func (b *faultBed) took(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.longest = max(b.longest, d)
}

func newFaultBed(t *testing.T, server *k3stest.Server) *faultBed {
	t.Helper()
	bundle, err := os.ReadFile(server.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatalf("%s holds no certificate", server.CAFile)
	}
	admin, err := tls.LoadX509KeyPair(adminFile(server, "crt"), adminFile(server, "key"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &faultBed{
		server:   server,
		upstream: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}, MinVersion: tls.VersionTLS12},
		address:  target.Host,
	}
}

func adminFile(server *k3stest.Server, suffix string) string {
	return filepath.Join(server.DataDir, "server", "tls", "client-admin."+suffix)
}

// try runs all the faults, several at a time.
func (b *faultBed) try(t *testing.T, faults []fault) {
	t.Helper()
	start := time.Now()
	queue := make(chan fault)
	var workers sync.WaitGroup
	for range faultsAtOnce {
		workers.Go(func() {
			for f := range queue {
				b.one(t, f)
			}
		})
	}
	for _, f := range faults {
		queue <- f
	}
	close(queue)
	workers.Wait()
	t.Logf("%d faults in %v, the longest run took %v", len(faults), time.Since(start).Round(time.Millisecond), b.longest.Round(time.Millisecond))
}

// one runs one fault and checks what it left.
func (b *faultBed) one(t *testing.T, f fault) {
	r := &faultRun{t: t, fault: f, mark: "fault " + randomID(), given: randomID() + "." + randomID() + randomID() + "0000"}
	if err := b.fill(r); err != nil {
		t.Error(err)
		return
	}
	stop, err := b.run(r)
	defer stop()
	if err != nil {
		t.Errorf("%s, %s: %v", f.command.verb, f.name, err)
		return
	}
	time.Sleep(f.late)
	if r.after, err = b.tokens(r.mark); err != nil {
		t.Error(err)
		return
	}
	if r.took > 5*time.Second {
		t.Logf("%s, %s: %v", f.command.verb, f.name, r.took.Round(time.Millisecond))
	}
	r.checkEnd()
	f.command.check(r)
	for id := range r.after {
		if _, err := call(b.server, http.MethodDelete, secretsPath+"/"+secretPrefix+id, "", nil); err != nil && !isNotFound(err) {
			t.Error(err)
		}
	}
}

// checkEnd checks what holds for each command.
func (r *faultRun) checkEnd() {
	r.t.Helper()
	within := r.fault.within
	if within == 0 {
		within = faultBound
	}
	if r.took > within {
		r.errorf("it took longer than %v", within)
	}
	switch r.exitCode {
	case 0:
		if r.fault.fails {
			r.errorf("it claims to have done its work")
		}
	case 1:
		if r.fault.heals {
			r.errorf("it should have done its work")
		}
		if !strings.Contains(r.stderr, "rror") && !strings.Contains(r.stderr, "onnect") {
			r.errorf("it does not say what went wrong")
		}
	case 130:
		if r.fault.interrupt == 0 {
			r.errorf("nobody has interrupted it")
		}
	default:
		r.errorf("that is no exit code of the plugin")
	}
	if strings.Contains(r.stderr, "panic") || secretPatterns[0].MatchString(r.stderr) {
		r.errorf("there is a panic or a secret on stderr")
	}
}

// run runs the plugin behind the fault. What stop takes away still delivers
// requests that are late.
func (b *faultBed) run(r *faultRun) (stop func(), err error) {
	f := r.fault
	if f.spoil == nil && f.tcp == nil {
		return func() {}, b.runAt(r, b.server.URL, nil)
	}
	serverURL, ca := "", []byte(nil)
	if f.spoil != nil {
		proxy := faultproxy.StartHTTP(r.t, b.server.URL, b.upstream, f.spoil)
		stop, serverURL, ca = proxy.Close, proxy.URL, proxy.CA
	} else {
		proxy := faultproxy.StartTCP(r.t, b.address, f.tcp...)
		stop, serverURL = proxy.Stop, "https://"+proxy.Addr
	}
	return stop, b.runAt(r, serverURL, ca)
}

// runAt runs the plugin with a kubeconfig for that server; without a CA it is
// the cluster's own.
func (b *faultBed) runAt(r *faultRun, serverURL string, ca []byte) error {
	// Not t.TempDir: hundreds of them would last until the test is over.
	dir, err := os.MkdirTemp("", "k3t-fault")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the system's folder for such things
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := b.writeKubeconfig(kubeconfig, serverURL, ca); err != nil {
		return err
	}
	binary, err := plugin()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*faultBound)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, binary, append(r.fault.command.args(r), r.fault.args...)...)
	command.Env = append([]string{"KUBECONFIG=" + kubeconfig, "HOME=" + dir}, quickPings...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if r.fault.command.stdin != nil {
		command.Stdin = strings.NewReader(r.fault.command.stdin(r))
	}
	start := time.Now()
	if err := command.Start(); err != nil {
		return err
	}
	if r.fault.interrupt > 0 {
		timer := time.AfterFunc(r.fault.interrupt, func() { interruptWithEcho(command.Process, syscall.SIGINT) })
		defer timer.Stop()
	}
	err = command.Wait()
	r.took = time.Since(start)
	b.took(r.took)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	r.result = result{stdout: stdout.String(), stderr: stderr.String(), exitCode: command.ProcessState.ExitCode()}
	return nil
}

func (b *faultBed) writeKubeconfig(name, serverURL string, ca []byte) error {
	cluster := map[string]any{"server": serverURL}
	user := map[string]any{}
	if ca != nil {
		cluster["certificate-authority-data"] = ca
		user["token"] = "the-proxy-has-the-credentials"
	} else {
		cluster["certificate-authority"] = b.server.CAFile
		user["client-certificate"], user["client-key"] = adminFile(b.server, "crt"), adminFile(b.server, "key")
	}
	config, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": []any{map[string]any{"name": "x", "cluster": cluster}},
		"users":    []any{map[string]any{"name": "x", "user": user}},
		"contexts": []any{map[string]any{"name": "x", "context": map[string]any{"cluster": "x", "user": "x"}}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(name, config, 0o600)
}

func randomID() string {
	const characters = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, 6)
	for i := range id {
		id[i] = characters[rand.IntN(len(characters))]
	}
	return string(id)
}

// put puts a token into the cluster, past all faults.
func (b *faultBed) put(id, mark string) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
		"metadata": map[string]any{"name": secretPrefix + id},
		"stringData": map[string]string{
			"token-id": id, "token-secret": randomID() + randomID() + "0000", "expiration": expiresBefore,
			"usage-bootstrap-authentication": "true", "description": mark,
		},
	})
	if err != nil {
		return err
	}
	_, err = call(b.server, http.MethodPost, secretsPath, "application/json", body)
	return err
}

// tokens asks the server itself for its tokens of that description, or for all.
func (b *faultBed) tokens(mark string) (map[string]storedToken, error) {
	tokens, err := storedTokens(b.server)
	maps.DeleteFunc(tokens, func(_ string, stored storedToken) bool { return mark != "" && stored.description != mark })
	return tokens, err
}

// startFaultBed returns a server of its own, which the fault tests share.
func startFaultBed(t *testing.T) *faultBed {
	t.Helper()
	requireBuilt(t, "k3s")
	server, err := shared.server("faults", k3stest.Options{Token: "e2e-faults-91c3b4e860d5e2f7a91c3b4e"})
	if err != nil {
		t.Fatal(err)
	}
	return newFaultBed(t, server)
}

// TestNetworkFaults spoils the bytes between plugin and server.
func TestNetworkFaults(t *testing.T) {
	besideOthers(t)
	bed := startFaultBed(t)
	both := func(on func(direction string) faultproxy.Fault) []faultproxy.Fault {
		return []faultproxy.Fault{on(faultproxy.ToServer), on(faultproxy.ToClient)}
	}
	var faults []fault
	for _, command := range allCommands {
		faults = append(faults,
			fault{name: "a slow line", command: command, heals: true, tcp: both(func(d string) faultproxy.Fault { return faultproxy.Latency(d, 100, 50) })},
			fault{name: "a narrow line", command: command, heals: true, tcp: both(func(d string) faultproxy.Fault { return faultproxy.Bandwidth(d, 20) })},
			fault{name: "small packets", command: command, heals: true, tcp: both(func(d string) faultproxy.Fault { return faultproxy.Slice(d, 60, 500) })},
			fault{name: "late closing", command: command, heals: true, tcp: both(func(d string) faultproxy.Fault { return faultproxy.SlowClose(d, 300) })},
			fault{name: "reset at once", command: command, fails: true, tcp: []faultproxy.Fault{faultproxy.ResetPeer(faultproxy.ToServer, 0)}, args: []string{"--request-timeout", "2s"}},
			fault{name: "reset by the answer", command: command, fails: true, tcp: []faultproxy.Fault{faultproxy.ResetPeer(faultproxy.ToClient, 50)}, args: []string{"--request-timeout", "2s"}},
			fault{name: "always cut", command: command, fails: true, tcp: []faultproxy.Fault{faultproxy.LimitData(faultproxy.ToClient, 2500)}, args: []string{"--request-timeout", "2s"}},
			fault{name: "nothing arrives", command: command, fails: true, tcp: []faultproxy.Fault{faultproxy.HalfOpen(faultproxy.ToServer)}, within: 20 * time.Second},
			fault{name: "nothing comes back", command: command, fails: true, tcp: []faultproxy.Fault{faultproxy.HalfOpen(faultproxy.ToClient)}, within: 20 * time.Second},
			fault{name: "nothing comes back, and an interrupt", command: command, fails: true, interrupt: time.Second, tcp: []faultproxy.Fault{faultproxy.Cut(faultproxy.ToClient, 2800, 100, faultproxy.Silent)}, within: 12 * time.Second},
		)
	}
	bed.try(t, faults)
}

// TestCutConnections cuts the connection at places all over it: in the
// handshake, in the requests, before the answers and in them. It is well after
// that.
func TestCutConnections(t *testing.T) {
	besideOthers(t)
	bed := startFaultBed(t)
	places := campaign(t, 8)
	var faults []fault
	for _, command := range []faultCommand{createOne, createSome, deleteSome, extendSome, listInChunks} {
		sent, received := bed.measure(t, command)
		for direction, total := range map[string]int{faultproxy.ToServer: sent, faultproxy.ToClient: received} {
			for i := range places {
				at := total * i / places
				if i > 0 {
					at += rand.IntN(total/places + 1)
				}
				f := fault{
					name:    fmt.Sprintf("cut %s at byte %d of %d", direction, at, total),
					command: command,
				}
				switch i % 3 {
				case 0:
					f.tcp = []faultproxy.Fault{faultproxy.Cut(direction, at, 1, faultproxy.Close)}
				case 1:
					f.name += ", reset"
					f.tcp = []faultproxy.Fault{faultproxy.Cut(direction, at, 1, faultproxy.Close), faultproxy.Abruptly(direction)}
				case 2:
					f.name += ", silent"
					f.tcp = []faultproxy.Fault{faultproxy.Cut(direction, at, 1, faultproxy.Silent)}
				}
				faults = append(faults, f)
			}
		}
	}
	rand.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	bed.try(t, faults)
}

// measure returns how many bytes a command sends and receives.
func (b *faultBed) measure(t *testing.T, command faultCommand) (sent, received int) {
	t.Helper()
	r := &faultRun{t: t, fault: fault{name: "none", command: command}, mark: "measured " + randomID()}
	if err := b.fill(r); err != nil {
		t.Fatal(err)
	}
	proxy := faultproxy.StartTCP(t, b.address,
		faultproxy.Cut(faultproxy.ToServer, 0, 0, faultproxy.Close), faultproxy.Cut(faultproxy.ToClient, 0, 0, faultproxy.Close))
	defer proxy.Stop()
	if err := b.runAt(r, "https://"+proxy.Addr, nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.after, err = b.tokens(r.mark); err != nil {
		t.Fatal(err)
	}
	command.check(r)
	for id := range r.after {
		if _, err := call(b.server, http.MethodDelete, secretsPath+"/"+secretPrefix+id, "", nil); err != nil {
			t.Error(err)
		}
	}
	if sent, received = proxy.Passed(faultproxy.ToServer), proxy.Passed(faultproxy.ToClient); r.exitCode != 0 || sent < 1000 || received < 1000 {
		t.Fatalf("%s without a fault: exit code %d, %d bytes sent, %d received", command.verb, r.exitCode, sent, received)
	}
	return sent, received
}

// TestServerFaults spoils requests and answers as servers and load balancers
// do: before the cluster sees the request, after it has carried it out, or, the
// worst, long before it does.
func TestServerFaults(t *testing.T) {
	besideOthers(t)
	bed := startFaultBed(t)
	const soon, never = 0, -1
	unavailable, busy := http.StatusServiceUnavailable, http.StatusTooManyRequests
	half := func(w http.ResponseWriter, r *faultproxy.Request) {
		answer := r.Forward()
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	}
	cutHalf := func(w http.ResponseWriter, r *faultproxy.Request) {
		answer := r.Forward()
		w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	garbage := func(w http.ResponseWriter, _ *faultproxy.Request) { _, _ = io.WriteString(w, "\x00 <html>") }
	hang := func(_ http.ResponseWriter, r *faultproxy.Request) { <-r.Context().Done() }

	var faults []fault
	add := func(command faultCommand, f fault) {
		f.command = command
		faults = append(faults, f)
	}
	for _, command := range allCommands {
		first := func(n int64, spoilers ...faultproxy.Spoiler) faultproxy.Spoiler {
			return faultproxy.First(n, command.method(), spoilers...)
		}
		const always = 1 << 40
		writes := command.method() != http.MethodGet
		repeats := command.verb == deleteSome.verb || command.verb == extendSome.verb || !writes
		// The server asks to come again, which the client library does.
		add(command, fault{name: "a burst of 429", heals: true, spoil: first(8, faultproxy.Status(busy, soon))})
		add(command, fault{name: "a burst of 503", heals: true, spoil: first(8, faultproxy.Status(unavailable, soon))})
		add(command, fault{name: "429 and 503 in turn", heals: true, spoil: first(6, faultproxy.Status(busy, soon), faultproxy.Status(unavailable, soon))})
		add(command, fault{name: "429 for ever", fails: true, spoil: first(always, faultproxy.Status(busy, soon))})
		add(command, fault{name: "503 for ever", fails: true, spoil: first(always, faultproxy.Status(unavailable, soon))})
		// It does not ask.
		add(command, fault{name: "429 alone", fails: true, spoil: first(1, faultproxy.Status(busy, never))})
		add(command, fault{name: "503 alone", heals: repeats && writes, spoil: first(1, faultproxy.Status(unavailable, never))})
		add(command, fault{name: "503 alone, for ever", fails: true, spoil: first(always, faultproxy.Status(unavailable, never))})
		add(command, fault{name: "cut before it arrives", heals: repeats && writes, spoil: first(1, faultproxy.Abort)})
		add(command, fault{name: "an answer that is no answer", heals: repeats && writes, fails: !writes, spoil: first(1, garbage)})
		if !writes {
			add(command, fault{name: "half an answer", fails: true, spoil: first(1, half)})
			add(command, fault{name: "an answer that is cut", fails: true, spoil: first(1, cutHalf)})
			continue
		}
		// It was carried out, and the answer is lost.
		add(command, fault{name: "carried out, 503 and again", heals: true, spoil: first(1, faultproxy.After(faultproxy.Status(unavailable, soon)))})
		add(command, fault{name: "carried out, 429 and again", heals: true, spoil: first(1, faultproxy.After(faultproxy.Status(busy, soon)))})
		add(command, fault{name: "carried out, 503 and again, then 403", fails: !repeats, spoil: first(2, faultproxy.After(faultproxy.Status(unavailable, soon)), faultproxy.Status(http.StatusForbidden, never))})
		add(command, fault{name: "carried out, 503", heals: repeats, spoil: first(1, faultproxy.After(faultproxy.Status(unavailable, never)))})
		add(command, fault{name: "carried out, 500", heals: repeats, spoil: first(1, faultproxy.After(faultproxy.Status(http.StatusInternalServerError, never)))})
		add(command, fault{name: "carried out, cut", heals: repeats, spoil: first(1, faultproxy.After(faultproxy.Abort))})
		add(command, fault{name: "carried out, always cut", spoil: first(always, faultproxy.After(faultproxy.Abort))})
		add(command, fault{name: "carried out, half an answer", spoil: first(1, half)})
		add(command, fault{name: "carried out, an answer that is cut", heals: repeats, spoil: first(1, cutHalf)})
		add(command, fault{name: "carried out, no answer in time", spoil: first(1, faultproxy.After(hang)), args: []string{"--request-timeout", "1s"}})
		add(command, fault{name: "carried out, always cut, and an interrupt", spoil: first(always, faultproxy.After(faultproxy.Abort)), interrupt: 1500 * time.Millisecond, within: 12 * time.Second})
		add(command, fault{name: "no answer, and an interrupt", fails: true, spoil: first(always, faultproxy.After(hang)), interrupt: time.Second, within: 12 * time.Second})
		// It is carried out after the plugin has looked what became of it.
		add(command, fault{name: "carried out late", heals: repeats, late: time.Second, spoil: first(1, faultproxy.Late(700*time.Millisecond, faultproxy.Abort))})
		add(command, fault{name: "503 and again, carried out late", heals: repeats, late: time.Second, spoil: first(1, faultproxy.Late(300*time.Millisecond, faultproxy.Status(unavailable, soon)))})
		add(command, fault{name: "carried out much too late", heals: repeats, late: 3 * time.Second, spoil: first(1, faultproxy.Late(5*time.Second, faultproxy.Abort))})
	}
	// The look itself is spoilt.
	for _, command := range []faultCommand{createOne, createGiven, createSome} {
		lost := func(look faultproxy.Spoiler) faultproxy.Spoiler {
			var posted atomic.Bool
			return func(w http.ResponseWriter, r *faultproxy.Request) {
				switch {
				case r.Method == http.MethodPost:
					posted.Store(true)
					faultproxy.After(faultproxy.Abort)(w, r)
				case posted.Load():
					look(w, r)
				default:
					faultproxy.Through(w, r)
				}
			}
		}
		add(command, fault{name: "carried out, and the look is refused", fails: true, spoil: lost(faultproxy.Status(http.StatusForbidden, never))})
		add(command, fault{name: "carried out, and the look fails at first", fails: true, spoil: lost(faultproxy.First(5, http.MethodGet, faultproxy.Status(http.StatusInternalServerError, never)))})
		add(command, fault{name: "carried out, and removing it fails at first", fails: true, spoil: lost(faultproxy.First(4, http.MethodDelete, faultproxy.Abort, faultproxy.After(faultproxy.Abort)))})
		add(command, fault{name: "503 and again, and the look is refused", fails: true, spoil: func() faultproxy.Spoiler {
			post := faultproxy.First(1, http.MethodPost, faultproxy.After(faultproxy.Status(unavailable, soon)))
			return func(w http.ResponseWriter, r *faultproxy.Request) {
				if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/secrets/") {
					faultproxy.Status(http.StatusForbidden, never)(w, r)
					return
				}
				post(w, r)
			}
		}()})
	}
	bed.try(t, faults)
}

// TestASecondInterruptEndsAtOnce has a user lose patience with a server that does
// not answer.
func TestASecondInterruptEndsAtOnce(t *testing.T) {
	besideOthers(t)
	bed := startFaultBed(t)
	asked := make(chan struct{})
	proxy := faultproxy.StartHTTP(t, bed.server.URL, bed.upstream, func(w http.ResponseWriter, r *faultproxy.Request) {
		if r.Method != http.MethodPost {
			faultproxy.Through(w, r)
			return
		}
		close(asked)
		<-r.Context().Done()
	})
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := bed.writeKubeconfig(kubeconfig, proxy.URL, proxy.CA); err != nil {
		t.Fatal(err)
	}
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, binary, "create")
	command.Env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + t.TempDir()}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-ctx.Done():
		t.Fatal("nothing was asked of the server")
	}
	start := time.Now()
	_ = command.Process.Signal(syscall.SIGINT)
	time.Sleep(1500 * time.Millisecond)
	_ = command.Process.Signal(syscall.SIGTERM)
	_ = command.Wait() // the exit code says how it ended
	if code, took := exitCode(command.ProcessState), time.Since(start); code != 143 || took > 4*time.Second {
		t.Errorf("exit code %d after %v", code, took)
	}
}

// TestListThatExpires has the server forget the list that is being read.
func TestListThatExpires(t *testing.T) {
	besideOthers(t)
	bed := startFaultBed(t)
	// gone answers that many requests for a further chunk with 410, and offers
	// to go on from there without the rest of the state, or not.
	gone := func(after, times int64, offers bool) faultproxy.Spoiler {
		var seen atomic.Int64
		return func(w http.ResponseWriter, r *faultproxy.Request) {
			token := r.URL.Query().Get("continue")
			if n := seen.Add(1); token == "" || n <= after || n > after+times {
				faultproxy.Through(w, r)
				return
			}
			status := map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": http.StatusGone,
				"message": "The provided continue parameter is too old", "metadata": map[string]any{}}
			if offers {
				status["metadata"] = map[string]any{"continue": inconsistent(t, token)}
			}
			body, err := json.Marshal(status)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusGone)
			_, _ = w.Write(body)
		}
	}
	const always = 1 << 40
	var faults []fault
	for _, offers := range []bool{true, false} {
		name := map[bool]string{true: ", it offers to go on", false: ""}[offers]
		faults = append(faults,
			fault{name: "gone once" + name, heals: true, spoil: gone(2, 1, offers)},
			fault{name: "gone twice in a row" + name, heals: true, spoil: gone(1, 2, offers)},
			fault{name: "always gone" + name, heals: true, spoil: gone(2, always, offers)},
		)
	}
	inSmallChunks := listInChunks
	inSmallChunks.args = func(*faultRun) []string { return []string{"list", "--chunk-size", "2", "-o", "name"} }
	for i := range faults {
		faults[i].command = inSmallChunks
		faults[i].within = 10 * time.Second
	}
	bed.try(t, faults)
}

// inconsistent returns the continue token with which an API server goes on with
// what there is now, as it offers one where it has forgotten the list.
func inconsistent(t *testing.T, token string) string {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Error(err)
	}
	var content map[string]any
	if err := json.Unmarshal(decoded, &content); err != nil {
		t.Error(err)
	}
	content["rv"] = -1
	encoded, err := json.Marshal(content)
	if err != nil {
		t.Error(err)
	}
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// TestAServerThatRestarts ends the server in the middle of commands over many
// tokens, by force or as an administrator does, and starts it again.
func TestAServerThatRestarts(t *testing.T) {
	besideOthers(t)
	requireBuilt(t, "k3s")
	const many = 200
	server := startOwn(t, k3stest.Options{})
	bed := newFaultBed(t, server)
	create := faultCommand{verb: "create --count", check: creates(2 * many), args: func(r *faultRun) []string {
		return []string{"create", "--count", strconv.Itoa(2 * many), "--expires-at", expiresBefore, "--description", r.mark}
	}}
	list := faultCommand{verb: "list", before: many, check: lists, args: func(*faultRun) []string {
		return []string{"list", "--chunk-size", "1", "-o", "name"}
	}}
	remove, extend := deleteSome, extendSome
	remove.before, extend.before = many, many

	removeAll := remove
	removeAll.verb, removeAll.args = "delete --all", func(*faultRun) []string { return []string{"delete", "--all", "--yes"} }

	ends := map[string]func() error{"killed": server.Kill, "stopped": server.Stop}
	for round := range 1 + campaign(t, 8)/50 {
		one, other := "stopped", "killed"
		if round%2 == 1 {
			one, other = other, one
		}
		bed.restart(t, one, ends[one], create, extend, list, remove)
		// From here on all tokens are those of one command.
		if err := deleteBootstrapTokens(server); err != nil {
			t.Fatal(err)
		}
		bed.restart(t, other, ends[other], removeAll)
		if err := deleteBootstrapTokens(server); err != nil {
			t.Fatal(err)
		}
	}

	// The server that has come back is as good as new.
	for _, command := range allCommands {
		bed.one(t, fault{name: "none", command: command, heals: true})
	}
}

// fill puts the tokens of a run into the cluster.
func (b *faultBed) fill(r *faultRun) error {
	for range r.fault.command.before {
		r.before = append(r.before, randomID())
	}
	errs := make([]error, len(r.before))
	var workers sync.WaitGroup
	turns := make(chan struct{}, faultsAtOnce)
	for i, id := range r.before {
		turns <- struct{}{}
		workers.Go(func() {
			errs[i] = b.put(id, r.mark)
			<-turns
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// midway tells whether each of the commands that write has begun to.
func (b *faultBed) midway(t *testing.T, runs []*faultRun) bool {
	t.Helper()
	tokens, err := b.tokens("")
	if err != nil {
		t.Fatal(err)
	}
	there, extended := map[string]int{}, map[string]int{}
	for _, token := range tokens {
		there[token.description]++
		if token.expiration == expiresAfter {
			extended[token.description]++
		}
	}
	const some = 10
	for _, r := range runs {
		done := some
		switch r.fault.command.method() {
		case http.MethodPost:
			done = there[r.mark]
		case http.MethodDelete:
			done = r.fault.command.before - there[r.mark]
		case http.MethodPatch:
			done = extended[r.mark]
		}
		if done < some {
			return false
		}
	}
	return true
}

// restart runs the commands side by side and, when each that writes has begun
// to, ends the server and starts it again.
func (b *faultBed) restart(t *testing.T, how string, end func() error, commands ...faultCommand) {
	t.Helper()
	runs := make([]*faultRun, len(commands))
	for i, command := range commands {
		runs[i] = &faultRun{t: t, fault: fault{name: "server " + how, command: command}, mark: "fault " + randomID()}
		if err := b.fill(runs[i]); err != nil {
			t.Fatal(err)
		}
	}
	ended := make([]chan error, len(runs))
	for i, r := range runs {
		ended[i] = make(chan error, 1)
		go func() { ended[i] <- b.runAt(r, b.server.URL, nil) }()
	}
	for begun := time.Now(); !b.midway(t, runs) && time.Since(begun) < faultBound; {
		time.Sleep(5 * time.Millisecond)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	down := time.Now()
	if err := b.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	up := time.Since(down)
	for i, r := range runs {
		if err := <-ended[i]; err != nil {
			t.Fatal(err)
		}
		var err error
		if r.after, err = b.tokens(r.mark); err != nil {
			t.Fatal(err)
		}
		r.checkEnd()
		r.fault.command.check(r)
		t.Logf("%s, %s: down for %v; exit code %d after %v, %d lines on stdout, %d tokens before and %d after", r.fault.command.verb, r.fault.name,
			up.Round(time.Millisecond), r.exitCode, r.took.Round(time.Millisecond), strings.Count(r.stdout, "\n"), len(r.before), len(r.after))
	}
}
