//go:build !linux

package e2e

import (
	"os"
	"testing"
)

func mount(t *testing.T, _, _ string, _ uintptr) {
	t.Helper()
	t.Skip("a full disk is made of a file system in memory, which is Linux's")
}

func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	return dir
}
