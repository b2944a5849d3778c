package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// interrupted sends a signal to a run, and fails the test if it does not end by
// that, with nothing on standard output.
func (r *run) interrupted(signal syscall.Signal) {
	r.t.Helper()
	r.signal(signal)
	if got := r.wants(128 + int(signal)); got.stdout != "" {
		r.t.Errorf("%s, %v: %d bytes on stdout", r.Args[1], signal, len(got.stdout))
	}
}

// TestInterruptedWhileItReads ends commands that wait for a standard input which
// says nothing, or half of a token.
func TestInterruptedWhileItReads(t *testing.T) {
	server := plain.borrow(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{
		{"inspect", "--token-file", fifo}, {"inspect", "-"}, {"create", "-"}, {"delete", "-"}, {"extend", "-", "--ttl", "1h"}, {"verify", "-"}, {"rotate", "--yes", "-t", "-"},
	}
	for i := range campaign(t, len(commands)) {
		r := newRun(t, server.Kubeconfig, commands[i%len(commands)]...)
		stdin, err := r.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		r.begin()
		if _, err := io.WriteString(stdin, []string{"", "abcdef.01234"}[i%2]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i%10) * 30 * time.Millisecond) // any moment will do
		r.interrupted([]syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i/3%2])
	}
	if left := storedTokens(t, server); len(left) > 0 {
		t.Errorf("the cluster has %d tokens", len(left))
	}
}

// TestInterruptedWithoutAnAnswer ends a create whose answer never comes. The
// first signal removes the token, the second ends the command at once.
func TestInterruptedWithoutAnAnswer(t *testing.T) {
	server := plain.borrow(t)
	asked := make(chan struct{})
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
	t.Cleanup(proxy.Close)
	args := append([]string{"create"}, proxy.flags(t)...)

	r := newRun(t, server.Kubeconfig, args...).begin()
	<-asked
	r.interrupted(syscall.SIGTERM)
	if left := storedTokens(t, server); len(left) > 0 {
		t.Errorf("the cluster has %d tokens", len(left))
	}

	r = newRun(t, server.Kubeconfig, args...).begin()
	<-asked
	go func() { // again and again: two that come together are one
		for r.Process.Signal(syscall.SIGINT) == nil {
			time.Sleep(100 * time.Millisecond)
		}
	}()
	r.interrupted(syscall.SIGINT)
	if status, ok := r.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Error("it goes on after a second signal")
	}
}

// onTerminal gives the run a terminal, and returns the end with the keyboard.
func (r *run) onTerminal() *os.File {
	r.t.Helper()
	keyboard, terminal, err := pty.Open()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = errors.Join(terminal.Close(), keyboard.Close()) })
	// Reads have a deadline only like this.
	err = errors.Join(syscall.SetNonblock(int(keyboard.Fd()), true), keyboard.SetReadDeadline(time.Now().Add(patience)))
	if err != nil {
		r.t.Fatal(err)
	}
	r.Stdin, r.Stdout, r.Stderr = terminal, terminal, terminal
	return keyboard
}

// awaitText reads the output of a terminal until it has shown the text.
func awaitText(t *testing.T, terminal io.Reader, text string) {
	t.Helper()
	var shown []byte
	for buffer := make([]byte, 1024); !bytes.Contains(shown, []byte(text)); {
		n, err := terminal.Read(buffer)
		if err != nil {
			t.Fatalf("%v; the terminal shows %q", err, shown)
		}
		shown = append(shown, buffer[:n]...)
	}
}

// TestInterruptedQuestion ends commands that ask on a terminal. The terminal is
// left as it was: text that is typed can be seen.
func TestInterruptedQuestion(t *testing.T) {
	server := plain.borrow(t)
	createTokens(t, server, 1)
	for question, args := range map[string][]string{"[y/N] ": {"delete", "--all"}, "token: ": {"rotate", "--server", server.SupervisorURL}} {
		r := newRun(t, server.Kubeconfig, args...)
		keyboard := r.onTerminal()
		r.begin()
		awaitText(t, keyboard, question)
		r.interrupted(syscall.SIGINT)
		if _, err := io.WriteString(keyboard, "typed later\n"); err != nil {
			t.Fatal(err)
		}
		awaitText(t, keyboard, "typed later")
	}

	// A signal that is ignored from the start, as nohup has it, stays ignored.
	r := newRun(t, server.Kubeconfig)
	r.Path, r.Args = "/bin/sh", []string{"sh", "-c", `trap "" HUP; exec "$0" delete --all`, plugin}
	keyboard := r.onTerminal()
	r.begin()
	awaitText(t, keyboard, "[y/N] ")
	r.signal(syscall.SIGHUP)
	if _, err := io.WriteString(keyboard, "\n"); err != nil { // no answer is a no
		t.Fatal(err)
	}
	if got := r.end(); got.exitCode != 1 || len(storedTokens(t, server)) != 1 {
		t.Errorf("exit code %d, and the cluster has %d tokens", got.exitCode, len(storedTokens(t, server)))
	}
}
