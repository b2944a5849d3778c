package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

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
	t              *testing.T
	stdout, stderr bytes.Buffer
}

// newRun prepares a run. Nothing of the caller's environment is left.
func newRun(t *testing.T, kubeconfig string, args ...string) *run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r := &run{t: t, Cmd: exec.CommandContext(ctx, plugin, args...)}
	r.Dir = t.TempDir()
	r.Env = []string{"PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + kubeconfig, "HOME=" + r.Dir, "TMPDIR=" + r.Dir}
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	return r
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
	return result{r.stdout.String(), r.stderr.String(), code}
}

// signal sends a signal to a run that may have ended.
func (r *run) signal(signal os.Signal) { _ = r.Process.Signal(signal) }

// runPlugin runs the plugin to its end.
func runPlugin(t *testing.T, server *k3stest.Server, args ...string) result {
	t.Helper()
	return newRun(t, server.Kubeconfig, args...).begin().end()
}

// mustRun is runPlugin for a command that must not fail. It returns its standard
// output.
func mustRun(t *testing.T, server *k3stest.Server, args ...string) string {
	t.Helper()
	got := runPlugin(t, server, args...)
	if got.exitCode != 0 {
		t.Fatalf("%s: exit code %d: %s", args[0], got.exitCode, redact(got.stderr))
	}
	return got.stdout
}

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
func awaitTrue(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// kubeconfigAt writes a kubeconfig for another address of the server, which is
// trusted by the CA.
func kubeconfigAt(t *testing.T, server *k3stest.Server, address string, ca []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := writeKubeconfig(server, file, func(_ *clientcmdapi.Config, cluster *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
		cluster.Server, cluster.CertificateAuthorityData = address, ca
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// halfOpen is a standard input that goes on after the text, and says nothing.
func halfOpen(t *testing.T, text string) *os.File {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close(); _ = writer.Close() })
	if _, err := io.WriteString(writer, text); err != nil {
		t.Fatal(err)
	}
	return reader
}
