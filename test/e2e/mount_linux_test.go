package e2e

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// mount puts a file system in memory over a folder, until the test ends.
func mount(t *testing.T, dir, options string, flags uintptr) {
	t.Helper()
	err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a file system can be mounted by root only")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// readOnly is a folder in which nothing can be written, not even by root.
func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		mount(t, dir, "size=64k", syscall.MS_RDONLY)
		return dir
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	return dir
}
