package cmd

import (
	"errors"
	"os"
	"testing"
)

func TestBrokenPipeIsRecognised(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	defer writer.Close() //nolint:errcheck // nothing was written
	if _, err := writer.Write([]byte("a")); !isBrokenPipe(err) {
		t.Errorf("a pipe that nobody reads from fails with %v", err)
	}
	if isBrokenPipe(errors.New("another")) || isBrokenPipe(nil) {
		t.Error("another error is taken for a broken pipe")
	}
}
