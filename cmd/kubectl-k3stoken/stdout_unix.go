//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// surviveBrokenPipes has a write to a pipe fail that nobody reads. The signal is
// caught and not ignored, since a kubeconfig's login program would inherit that.
func surviveBrokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// stdoutMayBeClosed tells whether the caller may have closed the standard
// output. Go's runtime then has opened /dev/null for reading and writing in its
// place, and what is written there is lost with success. So it is with a caller
// who opens /dev/null that way, as Python's subprocess.DEVNULL does; a shell's
// ">/dev/null" is for writing only.
func stdoutMayBeClosed() bool {
	flags, err := unix.FcntlInt(os.Stdout.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return true
	}
	out, outErr := os.Stdout.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return flags&unix.O_ACCMODE == unix.O_RDWR && outErr == nil && nullErr == nil && os.SameFile(out, null)
}
