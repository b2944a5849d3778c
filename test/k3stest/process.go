package k3stest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that does not outlive this process: the kernel sees to it.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

// startProcess starts the command and watches over it until it ends. The
// Ctrl-C of a terminal does not reach it: whoever started it stops it, after
// its last use.
func startProcess(command *exec.Cmd) (*process, error) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Setpgid, command.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	p := &process{command: command, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel counts the thread that forked as the parent, so that
		// thread has to live for as long as the child may.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // how it ended does not matter, only that it did
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stop asks the process to end and ends it by force after the given time.
func (p *process) stop(patience time.Duration) error {
	// An error means that it has ended by itself, which is as good.
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
	}
	return p.kill(patience)
}

// kill ends the process by force.
func (p *process) kill(patience time.Duration) error {
	_ = p.command.Process.Kill()
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d does not end even by force", p.command.Process.Pid)
	}
}

// poll returns when nothing is missing any more, when the process has ended, or when
// ctx is done. The error names the missing thing.
func poll(ctx context.Context, ended <-chan struct{}, missing func(context.Context) error) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		lack := missing(ctx)
		if lack == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), lack)
		case <-ended:
			return errors.New("its process ended")
		case <-ticker.C:
		}
	}
}
