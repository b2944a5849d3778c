package k3stest

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// stopTimeout is how long a process may take to end after SIGTERM.
const stopTimeout = 20 * time.Second

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

// stop asks the process to end, and ends it by force after some time. It does nothing
// if there is no process, or no longer one.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.kill()
	}
}

// kill ends the process by force.
func (p *process) kill() {
	if p != nil {
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

// await returns when nothing is missing any more, when the process has ended, or when
// ctx is done. The error names the missing thing.
func (p *process) await(ctx context.Context, missing func(context.Context) error) error {
	var lack error
	err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if lack = missing(ctx); lack == nil {
			return true, nil
		}
		select {
		case <-p.ended:
			return false, errors.New("its process ended")
		default:
			return false, nil
		}
	})
	return errors.Join(err, lack)
}
