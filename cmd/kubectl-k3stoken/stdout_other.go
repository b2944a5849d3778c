//go:build !unix

package main

func surviveBrokenPipes() {}

func stdoutMayBeClosed() bool { return false }
