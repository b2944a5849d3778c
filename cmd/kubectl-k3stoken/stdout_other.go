//go:build !unix

package main

func ignoreBrokenPipes() {}

func stdoutMayBeClosed() bool { return false }
