//go:build unix

package main

import (
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// stdout returns the standard output. Where the caller closed it, Go's runtime
// has opened /dev/null for reading and writing in its place, and a token would
// vanish there: every write fails instead. A caller's own ">/dev/null" is for
// writing only, and stays.
func stdout() io.Writer {
	flags, err := unix.FcntlInt(os.Stdout.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return closedOutput{}
	}
	if flags&unix.O_ACCMODE != unix.O_RDWR {
		return os.Stdout
	}
	out, outErr := os.Stdout.Stat()
	null, nullErr := os.Stat(os.DevNull)
	if outErr == nil && nullErr == nil && os.SameFile(out, null) {
		return closedOutput{}
	}
	return os.Stdout
}

// closedOutput is a standard output that the caller has closed.
type closedOutput struct{}

func (closedOutput) Write([]byte) (int, error) { return 0, fs.ErrClosed }
