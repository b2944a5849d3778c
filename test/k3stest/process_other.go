//go:build !linux

package k3stest

import "os/exec"

// bindToParent does nothing here: the server itself runs on Linux only, and
// this file is there for the packages that use this one to compile elsewhere.
func bindToParent(*exec.Cmd) {}
