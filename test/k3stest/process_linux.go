package k3stest

import (
	"os/exec"
	"syscall"
)

// bindToParent makes the kernel kill the child when this process dies, however
// it dies, and keeps the Ctrl-C of a terminal from the child: whoever started
// it stops it, after its last use.
func bindToParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
