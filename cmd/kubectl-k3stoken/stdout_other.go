//go:build !unix

package main

import (
	"io"
	"os"
)

func ignoreBrokenPipes() {}

func stdout() io.Writer { return os.Stdout }
