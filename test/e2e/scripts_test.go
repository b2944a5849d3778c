package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// tools are the programs besides the plugin that a script finds on its PATH,
// each if the machine has it. Nothing else is there: a script cannot pass
// because of a program that only one machine has.
var tools = []string{"kubectl", "sh", "bash", "mkdir", "mount", "sleep", "unshare"}

// TestScripts runs the scripts for a server as K3s sets it up by default.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "script", plain.borrow)
}

// TestScriptsOnOtherServers runs the scripts for other kinds of servers. Those
// of a folder share one.
func TestScriptsOnOtherServers(t *testing.T) {
	t.Parallel()
	runScripts(t, "script-rke2", rke2.borrow)
	for folder, options := range map[string]k3stest.Options{
		"script-customca": {CustomCA: true, AgentToken: "e2e-agent-token-0123456789"},
		"script-rotate":   {Token: firstPassword},
	} {
		t.Run(folder, func(t *testing.T) {
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
	env.Setenv("REPO", root)
	return nil
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
