package cmd

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/windows"
)

// readerIsGone cannot be told here before something is written.
func readerIsGone(io.Writer) bool { return false }

// isBrokenPipe tells whether a write failed since nobody reads any more.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA)
}
