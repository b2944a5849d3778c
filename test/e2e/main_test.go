// Package e2e drives the built plugin against a real K3s server.
//
// Each file of testdata/script is one test, in the language of
// https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript with the
// commands of commands_test.go. A script has a server to itself for as long as
// it runs, and finds it without any bootstrap token. The Go tests are for what
// a script cannot do: signals, broken connections, servers that are killed.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// tools are the programs besides the plugin that a script finds on its PATH,
// each if the machine has it. Nothing else is there: a script cannot pass
// because of a program that only one machine has.
var tools = []string{"kubectl", "sh", "bash", "mkdir", "mount", "sleep", "unshare"}

var (
	plugin string // the built one
	work   string // folder for everything that tests share

	// pool are the servers that tests borrow; each is started at its first use.
	pool = make(chan *k3stest.Server, 2)
	// beside has a place for each server of a test's own, so that they do not
	// starve on a small machine.
	beside = make(chan struct{}, 3)

	// oracle answers with K3s's own judgement of tokens. It is in hack/k3s alone.
	oracle = sync.OnceValues(k3stest.StartOracle)
)

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

// runAll runs the tests and then stops what they started.
func runAll(m *testing.M) int {
	flag.Parse()
	root, err := k3stest.Root()
	if err != nil {
		panic(err)
	}
	plugin = filepath.Join(root, "bin", "kubectl-k3s_token")
	_, pluginErr := os.Stat(plugin)
	_, serverErr := k3stest.Binary("k3s")
	if err := errors.Join(pluginErr, serverErr); err != nil {
		fmt.Fprintln(os.Stderr, "run make test-e2e:", err)
		if os.Getenv("CI") == "true" || os.Getenv("K3STOKEN_E2E") == "1" {
			return 1
		}
		return 0
	}
	// Tests settle themselves which of them run beside others. Those that wait
	// must not keep the others from running.
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	// The name is short, since it becomes part of the paths of unix sockets.
	if work, err = os.MkdirTemp("", "k3t"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // a folder for temporary files
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = os.RemoveAll(work)
		os.Exit(130) // the kernel ends the servers
	}()
	for range cap(pool) {
		pool <- nil
	}
	code := m.Run()
	for range cap(pool) {
		if server := <-pool; server != nil {
			_ = server.Stop()
		}
	}
	if o, err := oracle(); err == nil {
		_ = o.Close()
	}
	return code
}

// borrowServer returns a K3s server without tokens, which no other test uses
// until this one ends.
func borrowServer(t *testing.T) *k3stest.Server {
	t.Helper()
	t.Parallel()
	server := <-pool
	t.Cleanup(func() { pool <- server })
	if server == nil {
		server = start(t, k3stest.Options{})
	}
	deleteTokens(t, server)
	return server
}

// startOwn starts a server that only this test uses, beside other tests.
func startOwn(t *testing.T, options k3stest.Options) *k3stest.Server {
	t.Helper()
	beside <- struct{}{}
	t.Cleanup(func() { <-beside })
	server := start(t, options)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func start(t *testing.T, options k3stest.Options) *k3stest.Server {
	t.Helper()
	if options.Program == "rke2" && os.Getenv("K3S") != "" {
		t.Skip("RKE2 is of hack/k3s, and K3S names another K3s")
	}
	dir, err := os.MkdirTemp(work, "") //nolint:usetesting // the test's name makes the paths of sockets too long
	if err != nil {
		t.Fatal(err)
	}
	options.Dir = dir
	server, err := k3stest.Start(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// missing skips the test on a developer's machine that lacks a program, and
// fails it where all tests are meant to run.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// campaign is how many attempts a test makes: a few in every run of the tests,
// and as many as K3STOKEN_CAMPAIGN says in make campaign.
func campaign(t *testing.T, usually int) int {
	t.Helper()
	text := os.Getenv("K3STOKEN_CAMPAIGN")
	if text == "" {
		return usually
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("K3STOKEN_CAMPAIGN=%q: it must be 1 or more", text)
	}
	return n
}

// deleteTokens leaves the cluster without bootstrap tokens.
func deleteTokens(t *testing.T, server *k3stest.Server) {
	t.Helper()
	err := server.Core.Secrets(metav1.NamespaceSystem).DeleteCollection(t.Context(), metav1.DeleteOptions{}, onlyTokens)
	if err != nil {
		t.Fatal(err)
	}
}

// TestScripts runs the scripts for a server as K3s sets it up by default.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "script", borrowServer)
}

// TestScriptsOnOtherServers runs the scripts for other kinds of servers. Those
// of a folder share one.
func TestScriptsOnOtherServers(t *testing.T) {
	t.Parallel()
	for folder, options := range map[string]k3stest.Options{
		"script-rke2":     {Program: "rke2"},
		"script-customca": {CustomCA: true, AgentToken: "e2e-agent-token-0123456789"},
		"script-rotate":   {Token: firstPassword},
	} {
		t.Run(strings.TrimPrefix(folder, "script-"), func(t *testing.T) {
			t.Parallel()
			server := startOwn(t, options)
			runScripts(t, folder, func(*testing.T) *k3stest.Server { return server })
		})
	}
}

// runScripts runs the scripts of a folder of testdata, each on the server that
// serverFor returns for its test.
func runScripts(t *testing.T, folder string, serverFor func(*testing.T) *k3stest.Server) {
	t.Helper()
	testscript.RunT(quietT{t}, testscript.Params{
		Dir:                 filepath.Join("testdata", folder),
		Cmds:                commands,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		ContinueOnError:     testing.Verbose(),
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
		Setup:               func(env *testscript.Env) error { return setup(env, serverFor(env.T().(quietT).T)) },
		Condition: func(condition string) (bool, error) {
			if condition == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
	})
}

// serverKey is under which a script's environment holds its server.
type serverKey struct{}

// setup gives a script an empty cluster and an environment without anything of
// the machine's user.
func setup(env *testscript.Env, server *k3stest.Server) error {
	env.Values[serverKey{}] = server
	deleteTokens(env.T().(quietT).T, server)
	home, bin := filepath.Join(env.WorkDir, "home"), filepath.Join(env.WorkDir, ".bin")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Mkdir(bin, 0o700)); err != nil {
		return err
	}
	k3s, err := k3stest.Binary("k3s")
	if err != nil {
		return err
	}
	links := map[string]string{"kubectl-k3s_token": plugin, "k3s": k3s}
	for _, tool := range tools {
		if path, err := exec.LookPath(tool); err == nil {
			links[tool] = path
		}
	}
	for name, path := range links {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	kubeconfig, err := os.ReadFile(server.Kubeconfig)
	if err != nil {
		return err
	}
	copied := filepath.Join(env.WorkDir, "kubeconfig")
	if err := os.WriteFile(copied, kubeconfig, 0o600); err != nil {
		return err
	}
	env.Setenv("PATH", bin)
	env.Setenv("HOME", home)
	env.Setenv("KUBECONFIG", copied)
	env.Setenv("SERVER_URL", server.URL)
	env.Setenv("SUPERVISOR_URL", server.SupervisorURL)
	env.Setenv("SERVER_CA", server.CAFile)
	env.Setenv("SERVER_VERSION", server.Version)
	env.Setenv("DATA_DIR", server.DataDir)
	env.Setenv("REPO", filepath.Dir(filepath.Dir(plugin)))
	return nil
}

// quietT is a test that keeps secrets out of its log. Whether it runs beside
// others is not for testscript to say, which asks for that before each script.
type quietT struct{ *testing.T }

var secretPatterns = []*regexp.Regexp{
	regexp.MustCompile(`\b([a-z0-9]{6}\.)[a-z0-9]{16}\b`),
	regexp.MustCompile(`(::(?:server|node):)[^\s"']+`),
}

// redact takes secrets out of a test's own words.
func redact(values ...any) string {
	text := fmt.Sprint(values...)
	for _, pattern := range secretPatterns {
		text = pattern.ReplaceAllString(text, "${1}<secret>")
	}
	return text
}

func (t quietT) Parallel()           {}
func (t quietT) Verbose() bool       { return testing.Verbose() }
func (t quietT) Log(values ...any)   { t.Helper(); t.T.Log(redact(values...)) }
func (t quietT) Fatal(values ...any) { t.Helper(); t.T.Fatal(redact(values...)) }

func (t quietT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(quietT{t}) })
}
