// Package e2e drives the built plugin against a real K3s server.
//
// Each file of testdata/script is one test, in the language of
// https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript with the
// commands of commands_test.go. A script has a server to itself for as long as
// it runs, and finds it without any bootstrap token.
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
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// tools are the programs besides the plugin that a script finds on its PATH,
// each if the machine has it. Nothing else is there: a script cannot pass
// because of something that only one machine has.
var tools = []string{"kubectl", "sh", "bash", "zsh", "fish"}

// shared is what the scripts have in common; each part is made at its first use.
var shared = newFixtures()

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run runs the tests and then stops what they started, also when interrupted.
func run(m *testing.M) int {
	defer shared.close()
	flag.Parse()
	// Tests settle themselves which of them run beside others. Those that wait
	// must not keep the others from running.
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		close(shared.interrupted) // ends a start that is under way
		shared.close()
		os.Exit(130)
	}()
	return m.Run()
}

// TestScripts runs what holds on a server as K3s sets it up by default.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "script", func(t *testing.T) *k3stest.Server { return borrowServer(t, "k3s") })
}

// TestScriptsRKE2 runs what is different on the same server under RKE2's name.
func TestScriptsRKE2(t *testing.T) {
	t.Parallel()
	runScripts(t, "script-rke2", func(t *testing.T) *k3stest.Server { return borrowServer(t, "rke2") })
}

// TestScriptsCustomCA runs what is different with CAs below a private root.
func TestScriptsCustomCA(t *testing.T) {
	runScriptsBeside(t, "script-customca", k3stest.Options{CustomCA: true})
}

// TestScriptsAgentToken runs what is different where agents have a token of
// their own.
func TestScriptsAgentToken(t *testing.T) {
	runScriptsBeside(t, "script-agenttoken", k3stest.Options{AgentToken: "e2e-agent-token-0123456789"})
}

// TestScriptsRotate runs what changes a server's token.
func TestScriptsRotate(t *testing.T) {
	runScriptsBeside(t, "script-rotate", k3stest.Options{Token: "e2e-7d1c5a3b9f2e48607d1c5a3b9f2e"})
}

// runScriptsBeside runs scripts one after the other on a server of their own.
func runScriptsBeside(t *testing.T, folder string, options k3stest.Options) {
	t.Helper()
	besideOthers(t)
	requireBuilt(t, "k3s")
	server := startOwn(t, options)
	runScripts(t, folder, func(*testing.T) *k3stest.Server { return server })
}

// borrowServer returns a server of that program, "k3s" or "rke2", without tokens,
// which no other test uses until this one ends.
func borrowServer(t *testing.T, program string) *k3stest.Server {
	t.Helper()
	t.Parallel()
	requireBuilt(t, program)
	turn := <-shared.turns
	t.Cleanup(func() { shared.turns <- turn })
	server, err := shared.server(fmt.Sprintf("%s %d", program, turn), k3stest.Options{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	if err := deleteBootstrapTokens(server); err != nil {
		t.Fatal(err)
	}
	return server
}

// besideOthers lets the test run beside others, a few at a time: each has
// servers of its own, which are not to starve on a small machine.
func besideOthers(t *testing.T) {
	t.Helper()
	t.Parallel()
	shared.beside <- struct{}{}
	t.Cleanup(func() { <-shared.beside })
}

// fixtures are the servers and helpers that tests share.
type fixtures struct {
	interrupted chan struct{}
	turns       chan int // each is the right to use the servers of that number
	beside      chan struct{}

	mu      sync.Mutex
	dir     string // of everything below
	servers map[string]*sharedServer
	oracle  *k3stest.Oracle
}

func newFixtures() *fixtures {
	const turns, beside = 2, 3
	f := &fixtures{
		interrupted: make(chan struct{}),
		turns:       make(chan int, turns),
		beside:      make(chan struct{}, beside),
		servers:     map[string]*sharedServer{},
	}
	for turn := range turns {
		f.turns <- turn
	}
	return f
}

// sharedServer is a server that the first test to ask for it starts.
type sharedServer struct {
	dir    string
	once   sync.Once
	server *k3stest.Server
	err    error
}

// server returns the running server of that name. Whoever asks for a name gives
// the same options.
func (f *fixtures) server(name string, options k3stest.Options) (*k3stest.Server, error) {
	s, err := f.named(name)
	if err != nil {
		return nil, err
	}
	s.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			select {
			case <-f.interrupted:
				cancel()
			case <-ctx.Done():
			}
		}()
		options.Dir = s.dir
		s.server, s.err = k3stest.Start(ctx, options)
	})
	return s.server, s.err
}

func (f *fixtures) named(name string) (*sharedServer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.servers[name] == nil {
		dir, err := f.folder()
		if err != nil {
			return nil, err
		}
		f.servers[name] = &sharedServer{dir: filepath.Join(dir, fmt.Sprintf("s%d", len(f.servers)))}
	}
	return f.servers[name], nil
}

// tokenOracle returns K3s's own judgement of tokens.
func (f *fixtures) tokenOracle() (*k3stest.Oracle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oracle == nil {
		oracle, err := k3stest.StartOracle()
		if err != nil {
			return nil, err
		}
		f.oracle = oracle
	}
	return f.oracle, nil
}

// folder is where all that is shared lives. Its name is short, since it becomes
// part of the paths of unix sockets.
func (f *fixtures) folder() (string, error) {
	if f.dir == "" {
		dir, err := os.MkdirTemp("", "k3t")
		if err != nil {
			return "", err
		}
		f.dir = dir
	}
	return f.dir, nil
}

// toolsFolder is a folder with links to K3s and to the tools.
func (f *fixtures) toolsFolder() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, err := f.folder()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(dir, "tools")
	if err := os.Mkdir(folder, 0o700); errors.Is(err, os.ErrExist) {
		return folder, nil
	} else if err != nil {
		return "", err
	}
	k3s, err := k3stest.Binary("k3s")
	if err != nil {
		return "", err
	}
	links := map[string]string{"k3s": k3s}
	for _, tool := range tools {
		if path, err := exec.LookPath(tool); err == nil {
			links[tool] = path
		}
	}
	for name, path := range links {
		if err := os.Symlink(path, filepath.Join(folder, name)); err != nil {
			return "", err
		}
	}
	return folder, nil
}

// close stops all servers and removes their files.
func (f *fixtures) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, s := range f.servers {
		s.once.Do(func() {}) // waits for a start that is under way
		if s.server != nil {
			if err := s.server.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		delete(f.servers, name)
	}
	if f.oracle != nil {
		if err := f.oracle.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		f.oracle = nil
	}
	if f.dir != "" {
		if err := os.RemoveAll(f.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		f.dir = ""
	}
}

// plugin is the path of the built plugin.
func plugin() (string, error) {
	root, err := k3stest.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "kubectl-k3s_token")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the plugin is not built: %w", err)
	}
	return path, nil
}

// requireBuilt skips the test on a developer's machine where the binaries were
// not built, and fails it where the end-to-end tests are meant to run.
func requireBuilt(t *testing.T, program string) {
	t.Helper()
	_, pluginErr := plugin()
	_, serverErr := k3stest.Binary(program)
	_, oracleErr := k3stest.Binary("k3s")
	err := errors.Join(pluginErr, serverErr, oracleErr)
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" || os.Getenv("K3STOKEN_E2E") == "1" {
		t.Fatalf("run make test-e2e: %v", err)
	}
	t.Skipf("run make test-e2e: %v", err)
}

// requireTools skips the test on a developer's machine that lacks one of the
// programs, and fails it where all tests are meant to run.
func requireTools(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "it needs %s: install it, and run the test again", program)
		}
	}
}

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// runScripts runs the scripts of a folder of testdata, each on the server that
// serverFor returns for its test.
func runScripts(t *testing.T, folder string, serverFor func(*testing.T) *k3stest.Server) {
	t.Helper()
	params := testscript.Params{
		Dir:                 filepath.Join("testdata", folder),
		Cmds:                commands,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
		Setup:               func(env *testscript.Env) error { return setup(env, serverFor(env.T().(quietT).T)) },
		Condition: func(condition string) (bool, error) {
			switch condition {
			case "kubectl":
				_, err := exec.LookPath("kubectl")
				if err != nil && os.Getenv("CI") == "true" {
					return false, err // rather than leave out what is to be tested
				}
				return err == nil, nil
			case "root":
				return os.Geteuid() == 0, nil
			default:
				return false, fmt.Errorf("unknown condition %q", condition)
			}
		},
	}
	if deadline, ok := t.Deadline(); ok {
		params.Deadline = deadline
	}
	testscript.RunT(quietT{t}, params)
}

// serverKey is under which a script's environment holds its server.
type serverKey struct{}

// setup gives a script an empty cluster and an environment in which nothing of
// the machine's user is left.
func setup(env *testscript.Env, server *k3stest.Server) error {
	env.Values[serverKey{}] = server
	env.Values[proxyKey{}] = &connectProxy{}
	if err := deleteBootstrapTokens(server); err != nil {
		return err
	}
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	kubeconfig, err := os.ReadFile(server.Kubeconfig)
	if err != nil {
		return err
	}
	copied := filepath.Join(env.WorkDir, "kubeconfig")
	if err := os.WriteFile(copied, kubeconfig, 0o600); err != nil {
		return err
	}
	binary, err := plugin()
	if err != nil {
		return err
	}
	toolsDir, err := shared.toolsFolder()
	if err != nil {
		return err
	}
	env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+toolsDir)
	env.Setenv("HOME", home)
	env.Setenv("KUBECONFIG", copied)
	env.Setenv("SERVER_URL", server.URL)
	env.Setenv("SUPERVISOR_URL", server.SupervisorURL)
	env.Setenv("SERVER_CA", server.CAFile)
	env.Setenv("SERVER_VERSION", server.Version)
	env.Setenv("DATA_DIR", server.DataDir)
	env.Setenv("REPO", filepath.Dir(filepath.Dir(binary)))
	return nil
}

// quietT is a test that keeps secrets out of its log. Whether it runs beside
// others is not for testscript to say, which asks for that before each script.
type quietT struct{ *testing.T }

var secretPatterns = []*regexp.Regexp{
	regexp.MustCompile(`\b([a-z0-9]{6}\.)[a-z0-9]{16}\b`),
	regexp.MustCompile(`(::(?:server|node):)[^\s"']+`),
}

func redact(values []any) []any {
	redacted := make([]any, len(values))
	for i, value := range values {
		text := fmt.Sprint(value)
		for _, pattern := range secretPatterns {
			text = pattern.ReplaceAllString(text, "${1}<secret>")
		}
		redacted[i] = text
	}
	return redacted
}

func (t quietT) Parallel()         {}
func (t quietT) Verbose() bool     { return testing.Verbose() }
func (t quietT) Log(values ...any) { t.Helper(); t.T.Log(redact(values)...) }

func (t quietT) Fatal(values ...any) { t.Helper(); t.T.Fatal(redact(values)...) }

func (t quietT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(quietT{t}) })
}
