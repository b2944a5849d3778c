//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package cmd

// keepEchoOff has nothing to do where no shell stops and continues its jobs.
func keepEchoOff(int, func()) (stop func()) { return func() {} }
