package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// patience bounds each wait of a test, also on a busy machine.
const patience = 2 * time.Minute

// result is how a run of the plugin ended.
type result struct {
	stdout, stderr string
	exitCode       int
}

// run is a run of the plugin in a folder of its own.
type run struct {
	*exec.Cmd
	t      *testing.T
	folder string // its files "stdout" and "stderr" grow while the plugin runs
}

// newRun prepares a run. Nothing of the caller's environment is left.
func newRun(t *testing.T, kubeconfig string, args ...string) *run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r := &run{t: t, Cmd: exec.CommandContext(ctx, plugin, args...), folder: t.TempDir()}
	r.Dir = r.folder
	r.Env = []string{"PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + kubeconfig, "HOME=" + r.Dir, "TMPDIR=" + r.Dir}
	r.Stdout, r.Stderr = r.create("stdout"), r.create("stderr")
	return r
}

func (r *run) create(name string) *os.File {
	r.t.Helper()
	file, err := os.OpenFile(filepath.Join(r.folder, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = file.Close() })
	return file
}

// read returns what a file in the run's folder holds by now.
func (r *run) read(name string) string {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(r.folder, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(content)
}

func (r *run) begin() *run {
	r.t.Helper()
	if err := r.Start(); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// end waits for the end of the run.
func (r *run) end() result {
	_ = r.Wait() // the exit code says how it ended
	code := r.ProcessState.ExitCode()
	if status, ok := r.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal()) // as a shell has it
	}
	return result{r.read("stdout"), r.read("stderr"), code}
}

// wants fails the test unless the run ends with that exit code, and has said the texts.
func (r *run) wants(exitCode int, texts ...string) result {
	r.t.Helper()
	got := r.end()
	said := got.stdout + got.stderr
	lacks := slices.IndexFunc(texts, func(text string) bool { return !strings.Contains(said, text) })
	if got.exitCode != exitCode || lacks >= 0 {
		command := strings.Join(r.Args[1:], " ")
		r.t.Fatal(redact(fmt.Sprintf("%s: exit code %d, want %d and %q:\n%s", command, got.exitCode, exitCode, texts, said)))
	}
	return got
}

// signal sends a signal to a run that may have ended.
func (r *run) signal(signal os.Signal) { _ = r.Process.Signal(signal) }

// mustRun runs the plugin, which must not fail. It returns its standard output.
func mustRun(t *testing.T, server *k3stest.Server, args ...string) string {
	t.Helper()
	return newRun(t, server.Kubeconfig, args...).begin().wants(0).stdout
}

var secretPatterns = []*regexp.Regexp{
	regexp.MustCompile(`\b([a-z0-9]{6}\.)[a-z0-9]{16}\b`),
	regexp.MustCompile(`(::(?:server|node):)[^\s"']+`),
	regexp.MustCompile(`(\be2e-)[a-z0-9-]{20,}`), // the tests' own passwords
}

// redact takes secrets out of a test's own words.
func redact(values ...any) string {
	text := fmt.Sprint(values...)
	for _, pattern := range secretPatterns {
		text = pattern.ReplaceAllString(text, "${1}<secret>")
	}
	return text
}

// createTokens gives the cluster n tokens and no others, and returns their ids.
func createTokens(t *testing.T, server *k3stest.Server, n int) []string {
	t.Helper()
	deleteTokens(t, server)
	names := mustRun(t, server, "create", "--expires-at", expiresBefore, "--count", strconv.Itoa(n), "-o", "name")
	return strings.Fields(strings.ReplaceAll(names, "secret/"+secretPrefix, ""))
}

// storedTokens asks the server itself for the tokens that it has, by their ids.
func storedTokens(t *testing.T, server *k3stest.Server) map[string]corev1.Secret {
	t.Helper()
	list, err := secrets(server).List(t.Context(), onlyTokens)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]corev1.Secret{}
	for _, secret := range list.Items {
		tokens[strings.TrimPrefix(secret.Name, secretPrefix)] = secret
	}
	return tokens
}

// awaitTrue waits until something has happened.
func awaitTrue(t interface{ Fatalf(string, ...any) }, what string, happened func() bool) {
	check := func(context.Context) (bool, error) { return happened(), nil }
	if err := wait.PollUntilContextTimeout(context.Background(), 20*time.Millisecond, patience, true, check); err != nil {
		t.Fatalf("%s: not within %v", what, patience)
	}
}

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
