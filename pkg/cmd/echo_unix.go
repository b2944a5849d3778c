//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package cmd

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// keepEchoOff switches the echo of a terminal off again each time that the
// process continues after Ctrl-Z, until stop is called: a shell sets its own
// modes when a job stops, and not the job's when that continues. What was typed
// before is lost, so again is called to ask anew. Once stop has returned, the
// terminal is left alone.
func keepEchoOff(fd int, again func()) (stop func()) {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-continued:
				if !inBackground(fd) && echoOff(fd) == nil {
					again()
				}
			}
		}
	})
	return func() {
		signal.Stop(continued)
		close(over)
		watching.Wait()
	}
}

// inBackground tells whether the terminal is another job's, as after bg. To set
// its modes would stop the process, which fg is yet to continue once more.
func inBackground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && group != unix.Getpgrp()
}

// echoOff sets the modes of term.ReadPassword.
func echoOff(fd int) error {
	modes, err := unix.IoctlGetTermios(fd, getModes)
	if err != nil {
		return err
	}
	modes.Lflag &^= unix.ECHO
	modes.Lflag |= unix.ICANON | unix.ISIG
	modes.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, setModes, modes)
}
