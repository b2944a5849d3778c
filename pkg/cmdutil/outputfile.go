package cmdutil

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// OutputFile is a new file for a secret, readable by its owner alone.
type OutputFile struct {
	file *os.File
	kept bool
}

// CreateOutputFile creates the file that a flag names, before there is a secret to
// write. A file that exists is an error. Call Discard when done.
func CreateOutputFile(flag, name string) (*OutputFile, error) {
	if name == "-" {
		return nil, hint.Wrap(fmt.Errorf("--%s: \"-\" is no file", flag), "leave the flag out for standard output")
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the file that the user names
	if errors.Is(err, fs.ErrExist) {
		return nil, hint.Wrap(fmt.Errorf("--%s: %s exists", flag, name), "name a new file")
	}
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return &OutputFile{file: file}, nil
}

// Write writes the whole content, makes sure that it is on the disk, and closes the file.
func (f *OutputFile) Write(content []byte) (int, error) {
	n, err := f.file.Write(content)
	if err == nil {
		err = errors.Join(f.file.Sync(), f.file.Close())
	}
	f.kept = err == nil
	return n, err
}

// Discard removes the file unless it was written.
func (f *OutputFile) Discard() {
	if !f.kept {
		_ = f.file.Close() // Windows removes no open file
		_ = os.Remove(f.file.Name())
	}
}
