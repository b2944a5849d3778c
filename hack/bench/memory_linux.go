package main

import (
	"os"
	"syscall"
)

// peakMemory is the most memory that an ended process had in use, in bytes.
func peakMemory(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return int64(usage.Maxrss) << 10 //nolint:unconvert // it has 32 bits on arm
}
