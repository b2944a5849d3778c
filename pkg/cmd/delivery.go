package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// delivery is where a created token goes: standard output, or a new file that
// comes to be whole or not at all.
type delivery struct {
	env  *Env
	flag string // that names the file
	name string
	file *os.File // a temporary file beside the one that is to be
	made os.FileInfo
}

// newDelivery prepares a delivery, so that what can go wrong goes wrong before
// there is a token. The name is that of the flag, and without one it goes to
// standard output. A dry run only checks that the file can be made.
func (e *Env) newDelivery(flag, name string, dryRun bool) (*delivery, error) {
	d := &delivery{env: e, flag: flag, name: name}
	if name == "" {
		// Nothing is written, but a closed standard output is noticed.
		if _, err := io.WriteString(e.Out, ""); err != nil {
			return nil, undelivered(err)
		}
		if readerIsGone(e.Out) {
			return nil, undelivered(syscall.EPIPE)
		}
		return d, nil
	}
	if name == "-" {
		return nil, d.failed(errors.New(`"-" is no file: leave the flag out for standard output`))
	}
	if err := vacant(name); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, d.exists()
		}
		return nil, d.failed(err)
	}
	// CreateTemp makes files that only their owner can read. On Windows a mode
	// says nothing of others, and a file has the access list of its folder.
	file, err := os.CreateTemp(filepath.Dir(name), ".k3s-token-*")
	if err != nil {
		return nil, d.failed(err)
	}
	d.file = file
	e.interrupts.cleanUp(func() {
		_ = file.Close() // Windows removes no open file
		_ = os.Remove(file.Name())
	})
	if dryRun {
		d.abandon()
		d.name = ""
	}
	return d, nil
}

// vacant returns nil where a file of that name can come to be, fs.ErrExist where
// there is one, and else why that cannot be told: a name that is too long, say,
// which a temporary file beside it does not show.
func vacant(name string) error {
	_, err := os.Lstat(name)
	switch {
	case err == nil:
		return fs.ErrExist
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

func (d *delivery) exists() error {
	return d.failed(fmt.Errorf("%s exists already: name a new file", d.name))
}

func (d *delivery) failed(err error) error { return fmt.Errorf("--%s: %w", d.flag, err) }

// refuseLostOutput is for what must not be lost: a secret that nobody else knows.
func (e *Env) refuseLostOutput() error {
	if e.OutIsLost {
		return undelivered(errors.New("standard output is closed, or a null device that is open for reading as well"))
	}
	return nil
}

// undelivered says that a token has not reached the user. It is an error even
// where a broken pipe is none for other commands.
func undelivered(err error) error {
	return fmt.Errorf("the token could not be written out: %v", err) //nolint:errorlint // not to be taken for an outputError
}

// write delivers the result.
func (d *delivery) write(ctx context.Context, result []byte) error {
	if d.name == "" {
		if err := d.env.deliverResult(ctx, result); err != nil {
			return undelivered(err)
		}
		return nil
	}
	if _, err := d.file.Write(result); err != nil {
		return d.failed(err)
	}
	if err := d.file.Sync(); err != nil {
		return d.failed(err)
	}
	var err error
	if d.made, err = d.file.Stat(); err != nil {
		return d.failed(err)
	}
	if err := d.file.Close(); err != nil {
		return d.failed(err)
	}
	// A link never replaces a file that has come to be in the meantime, as a
	// rename would.
	err = os.Link(d.file.Name(), d.name)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = d.renameTo()
	}
	if errors.Is(err, fs.ErrExist) {
		return d.exists()
	}
	if err != nil {
		return d.failed(err)
	}
	return nil
}

// renameTo is for file systems without links, such as FAT.
func (d *delivery) renameTo() error {
	if err := vacant(d.name); err != nil {
		return err
	}
	return os.Rename(d.file.Name(), d.name)
}

// retract takes a delivered file away again, if it still is the one that was
// delivered.
func (d *delivery) retract() error {
	there, err := os.Lstat(d.name)
	if err != nil || !os.SameFile(d.made, there) {
		return err
	}
	return os.Remove(d.name)
}

// abandon takes away what is left of a delivery, done or not.
func (d *delivery) abandon() {
	if d.file == nil {
		return
	}
	_ = d.file.Close()
	_ = os.Remove(d.file.Name())
	d.file = nil
}
