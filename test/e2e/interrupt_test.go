package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// soon is how long a command that waits may take to end after a signal. It is
// long for a machine with much else to do.
const soon = 15 * time.Second

// endsSoon sends a signal to a run and fails the test if it does not end soon,
// with the exit code of the signal, and nothing on standard output.
func (r *run) endsSoon(signal syscall.Signal) {
	r.t.Helper()
	sent := time.Now()
	r.signal(signal)
	got := r.end()
	if took := time.Since(sent); got.exitCode != 128+int(signal) || took > soon || got.stdout != "" {
		r.t.Errorf("%v: exit code %d after %v, %d bytes on stdout; stderr:\n%s", signal, got.exitCode, took, len(got.stdout), redact(got.stderr))
	}
}

// TestInterruptedWhileItReads ends commands that wait for a standard input which
// says nothing, or half of a token.
func TestInterruptedWhileItReads(t *testing.T) {
	server := borrowServer(t)
	createTokens(t, server, 1)
	before := storedTokens(t, server)
	commands := [][]string{
		{"inspect", "-"}, {"create", "-"}, {"delete", "-"}, {"extend", "-", "--ttl", "1h"}, {"verify", "-"}, {"rotate", "--yes", "-t", "-"},
	}
	t.Run("all", func(t *testing.T) {
		for i := range campaign(t, len(commands)) {
			args, signal := commands[i%len(commands)], []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i/3%2]
			t.Run(args[0], func(t *testing.T) {
				t.Parallel()
				r := newRun(t, server.Kubeconfig, args...)
				r.Stdin = halfOpen(t, []string{"", "abcdef.01234"}[i%2])
				r.begin()
				time.Sleep(time.Duration(i%10) * 30 * time.Millisecond) // any moment will do
				r.endsSoon(signal)
			})
		}
	})
	if after := storedTokens(t, server); len(after) != len(before) {
		t.Error("the cluster has other tokens")
	}
}

// TestInterruptedWhileItLogsIn ends a command that waits for the kubeconfig's
// login program.
func TestInterruptedWhileItLogsIn(t *testing.T) {
	server := borrowServer(t)
	dir := t.TempDir()
	login := writeFile(t, dir, "login.sh", "#!/bin/sh\ntouch '"+dir+"/asked'\nexec sleep 600 <&- >&- 2>&-\n")
	if err := os.Chmod(login, 0o700); err != nil {
		t.Fatal(err)
	}
	kubeconfig := kubeconfigAs(t, server, clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: login, InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}})
	r := newRun(t, kubeconfig, "list").begin()
	awaitTrue(t, "the program was asked", func() bool { _, err := os.Stat(filepath.Join(dir, "asked")); return err == nil })
	r.endsSoon(syscall.SIGINT)
}

// TestInterruptedWithoutAnAnswer ends a create whose answer never comes: once, and
// again and again as somebody does who has lost patience.
func TestInterruptedWithoutAnAnswer(t *testing.T) {
	server := borrowServer(t)
	for _, again := range []bool{false, true} {
		asked := make(chan struct{}, 1)
		proxy, err := startBetween(server, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			if r.Method != http.MethodPost {
				forward.ServeHTTP(w, r)
				return
			}
			asked <- struct{}{}
			<-r.Context().Done()
		})
		if err != nil {
			t.Fatal(err)
		}
		r := newRun(t, kubeconfigAt(t, server, proxy.URL, proxy.ca()), "create").begin()
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("nothing was asked of the server")
		}
		if again {
			ticker := time.NewTicker(100 * time.Millisecond)
			go func() {
				for range ticker.C {
					r.signal(syscall.SIGINT)
				}
			}()
			r.endsSoon(syscall.SIGINT)
			ticker.Stop()
			if status, ok := r.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
				t.Error("it goes on after a second signal")
			}
		} else {
			r.endsSoon(syscall.SIGTERM)
		}
		proxy.Close()
	}
	if left := storedTokens(t, server); len(left) > 0 {
		t.Errorf("the cluster has %d tokens", len(left))
	}
}

// screen is the text that a terminal has shown.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func watch(terminal *os.File) *screen {
	s := &screen{}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := terminal.Read(buffer)
			s.mu.Lock()
			s.text.Write(buffer[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// TestInterruptedQuestion ends commands that wait for an answer on a terminal.
// The terminal is left as it was: text that is typed can be seen.
func TestInterruptedQuestion(t *testing.T) {
	server := borrowServer(t)
	createTokens(t, server, 2)
	for question, args := range map[string][]string{"[y/N] ": {"delete", "--all"}, "token: ": {"rotate", "--server", server.SupervisorURL}} {
		t.Run(args[0], func(t *testing.T) {
			r := newRun(t, server.Kubeconfig, args...)
			keyboard, terminal, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = terminal.Close(); _ = keyboard.Close() })
			shown := watch(keyboard)
			r.Stdin, r.Stdout, r.Stderr = terminal, terminal, terminal
			r.begin()
			awaitTrue(t, "it asks", func() bool { return shown.shows(question) })
			r.endsSoon(syscall.SIGINT)
			if _, err := io.WriteString(keyboard, "typed later\n"); err != nil {
				t.Fatal(err)
			}
			awaitTrue(t, "the terminal shows typed text", func() bool { return shown.shows("typed later") })
		})
	}
	if left := storedTokens(t, server); len(left) != 2 {
		t.Errorf("the cluster has %d tokens, want 2", len(left))
	}
}

// TestAnInterruptThatIsIgnoredStaysSo starts a command as nohup and
// shells in the background do.
func TestAnInterruptThatIsIgnoredStaysSo(t *testing.T) {
	server := borrowServer(t)
	r := newRun(t, server.Kubeconfig)
	r.Path, r.Args = "/bin/sh", []string{"sh", "-c", `trap "" INT HUP; : >ready; exec "$0" inspect -`, plugin}
	reader, writer := io.Pipe()
	r.Stdin = reader
	r.begin()
	awaitTrue(t, "the shell ignores signals", func() bool { _, err := os.Stat(filepath.Join(r.Dir, "ready")); return err == nil })
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		r.signal(signal)
	}
	_, _ = io.WriteString(writer, "abcdef.0123456789abcdef\n")
	_ = writer.Close()
	if got := r.end(); got.exitCode != 0 {
		t.Errorf("exit code %d: %s", got.exitCode, got.stderr)
	}
}
