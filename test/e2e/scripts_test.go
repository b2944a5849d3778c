package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// TestScripts runs the scripts for a server as K3s sets it up by default.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "script", func(t *testing.T, env *testscript.Env) { setup(t, env, plain.borrow(t)) })
}

// TestScriptsOnOtherServers runs the scripts for other kinds of servers. Those
// of a folder share one.
func TestScriptsOnOtherServers(t *testing.T) {
	t.Parallel()
	runScripts(t, "script-rke2", func(t *testing.T, env *testscript.Env) { setup(t, env, rke2.borrow(t)) })
	for folder, options := range map[string]k3stest.Options{
		"script-customca": {CustomCA: true, AgentToken: "e2e-agent-token-0123456789"},
		"script-rotate":   {Token: firstPassword},
	} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			server := startOwn(t, options)
			runScripts(t, folder, func(t *testing.T, env *testscript.Env) { setup(t, env, server) })
		})
	}
}

// runScripts runs the scripts of a folder of testdata. Each is a test, with an
// environment that is set up before.
func runScripts(t *testing.T, folder string, setup func(*testing.T, *testscript.Env)) {
	t.Helper()
	testscript.RunT(quietT{t}, testscript.Params{
		Dir:                 filepath.Join("testdata", folder),
		Cmds:                commands,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		ContinueOnError:     testing.Verbose(),
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
		Setup: func(env *testscript.Env) error {
			setup(env.T().(quietT).T, env)
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
	})
}

// serversKey is under which a script's environment holds its servers, by their URLs.
type serversKey struct{}

// setup gives a script an empty cluster and an environment without anything of
// the machine's user.
func setup(t *testing.T, env *testscript.Env, server *k3stest.Server) {
	t.Helper()
	env.Values[serversKey{}] = map[string]*k3stest.Server{"": server}
	deleteTokens(t, server)
	k3s, err := k3stest.Binary("k3s")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := os.ReadFile(server.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	env.Setenv("PATH", strings.Join([]string{filepath.Dir(plugin), filepath.Dir(k3s), os.Getenv("PATH")}, ":"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("KUBECONFIG", writeFile(t, env.WorkDir, "kubeconfig", string(kubeconfig)))
	env.Setenv("SERVER_URL", server.URL)
	env.Setenv("SUPERVISOR_URL", server.SupervisorURL)
	env.Setenv("SERVER_CA", server.CAFile)
	env.Setenv("SERVER_VERSION", server.Version)
	env.Setenv("DATA_DIR", server.DataDir)
	env.Setenv("REPO", root)
}

// quietT is a test that keeps secrets out of its log. Whether it runs beside
// others is not for testscript to say, which asks for that before each script.
type quietT struct{ *testing.T }

func (t quietT) Parallel()           {}
func (t quietT) Verbose() bool       { return testing.Verbose() }
func (t quietT) Log(values ...any)   { t.Helper(); t.T.Log(redact(values...)) }
func (t quietT) Fatal(values ...any) { t.Helper(); t.T.Fatal(redact(values...)) }

func (t quietT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(quietT{t}) })
}
