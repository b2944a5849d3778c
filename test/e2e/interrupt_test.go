package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// interruptions is how often each command is interrupted, at another moment
// each time.
const interruptions = 25

// startServer returns the server that scripts use as well, without tokens.
func startServer(t *testing.T) *k3stest.Server {
	t.Helper()
	requireBuilt(t, "k3s")
	server, err := shared.server(k3stest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := deleteBootstrapTokens(server); err != nil {
		t.Fatal(err)
	}
	return server
}

// result is what a command left.
type result struct {
	stdout, stderr string
	exitCode       int
}

// runInterrupted runs the plugin and sends it the signal after the delay,
// unless it has ended by then.
func runInterrupted(t *testing.T, server *k3stest.Server, signal syscall.Signal, delay time.Duration, args ...string) result {
	t.Helper()
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, binary, args...)
	command.Env = []string{"KUBECONFIG=" + server.Kubeconfig, "HOME=" + t.TempDir()}
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(delay, func() { _ = command.Process.Signal(signal) })
	defer timer.Stop()
	err = command.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	code := command.ProcessState.ExitCode()
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		// Before main, Go's runtime has no handler yet.
		code = 128 + int(status.Signal())
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), exitCode: code}
}

// tokenIDs returns the ids of the tokens that the cluster has.
func tokenIDs(t *testing.T, server *k3stest.Server) map[string]bool {
	t.Helper()
	answer, err := call(server, http.MethodGet, secretsPath+tokensQuery, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, item := range list.Items {
		ids[strings.TrimPrefix(item.Metadata.Name, secretPrefix)] = true
	}
	return ids
}

// moments returns delays spread over a command's run time, in random order, so
// that each part of it is interrupted.
func moments(longest time.Duration) []time.Duration {
	delays := make([]time.Duration, interruptions)
	for i := range delays {
		delays[i] = longest * time.Duration(i) / interruptions
	}
	rand.Shuffle(len(delays), func(i, j int) { delays[i], delays[j] = delays[j], delays[i] })
	return delays
}

func TestInterruptedCreateLeavesNoTokenThatNobodySaw(t *testing.T) {
	server := startServer(t)
	interrupted := 0
	for i, delay := range moments(60 * time.Millisecond) {
		args, signal, code := []string{"create", "--count", "20"}, syscall.SIGINT, 130
		if i%2 == 1 {
			args, signal, code = []string{"create"}, syscall.SIGTERM, 143
		}
		got := runInterrupted(t, server, signal, delay, args...)
		ids := tokenIDs(t, server)
		switch got.exitCode {
		case 0:
			if printed := strings.Count(got.stdout, "K10"); printed != len(ids) {
				t.Errorf("after %v: %d tokens printed, the cluster has %d", delay, printed, len(ids))
			}
		case code:
			interrupted++
			if got.stdout != "" {
				t.Errorf("after %v: interrupted, and yet something was printed", delay)
			}
			if len(ids) != 0 {
				t.Errorf("after %v: interrupted, and the cluster has %d tokens; stderr:\n%s", delay, len(ids), got.stderr)
			}
		default:
			t.Errorf("after %v: exit code %d, want 0 or %d; stderr:\n%s", delay, got.exitCode, code, got.stderr)
		}
		if err := deleteBootstrapTokens(server); err != nil {
			t.Fatal(err)
		}
	}
	if interrupted == 0 {
		t.Error("no run was interrupted: the delays are too long")
	}
	t.Logf("%d of %d runs interrupted", interrupted, interruptions)
}

func TestInterruptedDeleteSaysWhatIsGone(t *testing.T) {
	server := startServer(t)
	interrupted := 0
	for _, delay := range moments(120 * time.Millisecond) {
		if got := runInterrupted(t, server, syscall.SIGINT, time.Minute, "create", "--count", "60", "--output-file", t.TempDir()+"/tokens"); got.exitCode != 0 {
			t.Fatalf("create: %s", got.stderr)
		}
		before := tokenIDs(t, server)
		got := runInterrupted(t, server, syscall.SIGINT, delay, "delete", "--all", "--yes", "-o", "name")
		after := tokenIDs(t, server)
		for id := range before {
			said := strings.Contains(got.stdout, secretPrefix+id+"\n")
			if gone := !after[id]; said != gone {
				t.Errorf("after %v: token %s: said to be deleted: %v, gone: %v", delay, id, said, gone)
			}
		}
		switch got.exitCode {
		case 130:
			interrupted++
		case 0:
			if len(after) != 0 {
				t.Errorf("after %v: exit code 0, and %d tokens are left", delay, len(after))
			}
		default:
			t.Errorf("after %v: exit code %d, want 0 or 130; stderr:\n%s", delay, got.exitCode, got.stderr)
		}
		if err := deleteBootstrapTokens(server); err != nil {
			t.Fatal(err)
		}
	}
	if interrupted == 0 {
		t.Error("no run was interrupted: the delays are too long")
	}
	t.Logf("%d of %d runs interrupted", interrupted, interruptions)
}

// TestInterruptedRotateNeverLosesTheNewToken ends rotate at all moments, by
// each signal. Whatever the server has on its disk then, the user has as well.
func TestInterruptedRotateNeverLosesTheNewToken(t *testing.T) {
	requireBuilt(t, "k3s")
	server := startOwn(t, k3stest.Options{Token: firstPassword})
	o := newOperator(t, server)
	current, err := server.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"rotate", "--yes", "--force", "--token-file", filepath.Join(o.dir, o.file(t, "old", current)), "--new-token-output"}
	interrupted, changed := 0, 0
	for i, delay := range moments(600 * time.Millisecond) {
		before, err := server.ServerToken()
		if err != nil {
			t.Fatal(err)
		}
		signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL}[i%4]
		file := filepath.Join(o.dir, "new-"+strconv.Itoa(i))
		// Only a file is safe from SIGKILL.
		toFile := i%2 == 1
		run := append(args[:len(args):len(args)], file)
		if !toFile {
			run = args[:len(args)-1]
		}
		got := runInterrupted(t, server, signal, delay, run...)
		time.Sleep(300 * time.Millisecond) // the server ends what it has begun
		after, err := server.ServerToken()
		if err != nil {
			t.Fatal(err)
		}
		kept := strings.TrimSpace(got.stdout)
		if content, err := os.ReadFile(file); err == nil {
			kept = strings.TrimSpace(string(content))
		}
		switch got.exitCode {
		case 0:
		case 128 + int(signal):
			interrupted++
		default:
			t.Errorf("%v after %v: exit code %d; stderr:\n%s", signal, delay, got.exitCode, hidePasswords(got.stderr))
		}
		if after != before {
			changed++
			if kept != after {
				t.Errorf("%v after %v: the server has a token that the user does not have; stderr:\n%s", signal, delay, hidePasswords(got.stderr))
			}
		} else if got.exitCode == 0 {
			t.Errorf("%v after %v: exit code 0, and the server has its old token", signal, delay)
		}
		if signal != syscall.SIGKILL && after == before && kept != "" && !strings.Contains(got.stderr, "not in use") && !strings.Contains(got.stderr, "Keep both tokens") {
			t.Errorf("%v after %v: a token that is not in use is left; stderr:\n%s", signal, delay, hidePasswords(got.stderr))
		}
	}
	if interrupted == 0 || changed == 0 {
		t.Errorf("%d runs were interrupted, and %d have changed the token: the delays are wrong", interrupted, changed)
	}
	t.Logf("%d of %d runs interrupted, %d have changed the token", interrupted, interruptions, changed)
}
