//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

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
