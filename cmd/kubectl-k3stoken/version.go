package main

import (
	"runtime/debug"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
)

// buildInfo returns the version that the linker has set or, after "go install",
// the one that Go has recorded.
func buildInfo() v1alpha1.ClientVersion {
	build := v1alpha1.ClientVersion{Version: version, Commit: commit, Date: date}
	info, ok := debug.ReadBuildInfo()
	if version != "" || !ok {
		return build
	}
	build.Version = info.Main.Version
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			build.Commit = setting.Value
		case "vcs.time":
			build.Date = setting.Value
		}
	}
	return build
}
