//go:build unix

package cmd

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// isBrokenPipe tells whether a write failed since nobody reads any more.
func isBrokenPipe(err error) bool { return errors.Is(err, unix.EPIPE) }

// readerIsGone tells whether nobody reads any more what is written to a pipe or
// a terminal. Nothing is written to find out.
func readerIsGone(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLOUT}} //nolint:gosec // descriptors are small
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
