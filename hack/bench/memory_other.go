//go:build !linux

package main

import "os"

// peakMemory is not known: the K3s server that is measured on runs on Linux.
func peakMemory(*os.ProcessState) int64 { return 0 }
