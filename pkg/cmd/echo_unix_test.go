//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package cmd

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const secretPrompt = "Current server token: "

// question is a secret that is asked for on a terminal, and the person there.
type question struct {
	fd      int
	person  *os.File
	answers chan error
	secret  string
}

func askForSecret(ctx context.Context, t *testing.T) *question {
	t.Helper()
	env, person := terminal(t)
	q := &question{fd: int(env.In.(*os.File).Fd()), person: person, answers: make(chan error, 1)}
	go func() {
		var err error
		q.secret, err = env.askSecret(ctx, secretPrompt)
		q.answers <- err
	}()
	if shown := readUntil(t, person, secretPrompt); shown != secretPrompt {
		t.Errorf("it asks %q", shown)
	}
	q.awaitSilence(t)
	return q
}

func (q *question) modes(t *testing.T) *unix.Termios {
	t.Helper()
	modes, err := unix.IoctlGetTermios(q.fd, getModes)
	if err != nil {
		t.Fatal(err)
	}
	return modes
}

func (q *question) echoes(t *testing.T) bool {
	t.Helper()
	return q.modes(t).Lflag&unix.ECHO != 0
}

// awaitSilence waits for the reader, which switches the echo off soon after the
// prompt.
func (q *question) awaitSilence(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); q.echoes(t); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the echo is not switched off")
		}
	}
}

// resume does what a shell does to a job that was stopped: it has set its own
// modes, with echo, and has the job continue.
func (q *question) resume(t *testing.T) {
	t.Helper()
	modes := q.modes(t)
	modes.Lflag |= unix.ECHO
	modes.Lflag &^= unix.ICANON // as a line editor has it
	if err := unix.IoctlSetTermios(q.fd, setModes, modes); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func TestASecretIsNotShownAfterTheProcessWasStopped(t *testing.T) {
	q := askForSecret(t.Context(), t)
	for range 2 {
		q.resume(t)
		if shown := readUntil(t, q.person, secretPrompt); shown != secretPrompt {
			t.Errorf("it asks %q", shown)
		}
		if modes := q.modes(t); modes.Lflag&unix.ECHO != 0 || modes.Lflag&unix.ICANON == 0 {
			t.Fatal("after the process continues, the terminal has the modes of the shell")
		}
	}
	if _, err := q.person.WriteString("hidden\n"); err != nil {
		t.Fatal(err)
	}
	if shown := readUntil(t, q.person, "\r\n"); shown != "\r\n" {
		t.Errorf("the terminal shows %q", shown)
	}
	if err := <-q.answers; err != nil || q.secret != "hidden" {
		t.Errorf("got %q, error %v", q.secret, err)
	}
	if !q.echoes(t) {
		t.Error("the terminal is left without echo")
	}
	// From now on the terminal is the shell's.
	q.resume(t)
	time.Sleep(20 * time.Millisecond)
	if !q.echoes(t) {
		t.Error("the echo is switched off though no secret is being read")
	}
}

func TestAnInterruptRestoresTheEchoOfAProcessThatWasStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	q := askForSecret(ctx, t)
	q.resume(t)
	readUntil(t, q.person, secretPrompt)
	cancel(Interrupted{ExitCode: 130})
	if err := <-q.answers; !errors.Is(err, Interrupted{ExitCode: 130}) {
		t.Errorf("error %v, want the interrupt", err)
	}
	if !q.echoes(t) {
		t.Error("the terminal is left without echo")
	}
	// Its reader waits for the terminal still.
	if _, err := q.person.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
}
