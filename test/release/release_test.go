// Package release makes the release that .goreleaser.yaml describes, and installs
// it as a user would: `make release-test`. Nothing is published or signed.
package release

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	// version is that of the release, and commitTime the time of its commit.
	version    = "0.1.0"
	commitTime = "2026-01-02T03:04:06Z"
)

// TestRelease is skipped unless it is asked for, since the tools for it take minutes to
// build.
func TestRelease(t *testing.T) {
	if os.Getenv("K3STOKEN_RELEASE") != "1" {
		t.Skip("run make release-test: it builds goreleaser and krew, and a release with them")
	}
	source, dist := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "dist")
	commitSources(t, source)
	makeRelease(t, source, dist)
	t.Run("scripts", func(t *testing.T) { runScripts(t, source, dist) })
	t.Run("the manifest in the repository is up to date", func(t *testing.T) { testManifest(t, dist) })
	t.Run("the same commit gives the same files", func(t *testing.T) { testSameFiles(t, source, dist) })
}

// shell runs a shell script in a folder, and returns what it prints to standard output.
// A git that it runs has no configuration of the user's, and commits at the release's
// time.
func shell(t *testing.T, dir string, env []string, script string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sh", append([]string{"-ec", script, "sh"}, args...)...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_AUTHOR_DATE="+commitTime,
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com", "GIT_COMMITTER_DATE="+commitTime)
	command.Env = append(command.Env, env...)
	var stderr strings.Builder
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s%s", err, script, stdout, stderr.String())
	}
	return string(stdout)
}

// commitSources commits the files of the work tree in a repository of its own.
// goreleaser refuses a work tree with changes, and only there can the test choose
// tag and time. Files that are deleted or ignored are skipped.
func commitSources(t *testing.T, dir string) {
	t.Helper()
	shell(t, "../..", nil, `mkdir "$1"
		git ls-files -z --cached --others --exclude-standard |
			tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -C "$1" -xf -
		cd "$1"
		git init --quiet --initial-branch=main
		git remote add origin https://github.com/k3s-token/kubectl-k3s-token
		git add --all
		git commit --quiet --message=Release
		git tag "v$2"`, dir, version)
}

// makeRelease makes the release of a clone that the workflow would make, and moves it to
// dist. Programs that need an identity or minutes to build are replaced: a signature is
// a copy of the signed file, and an SBOM the name of the described one.
func makeRelease(t *testing.T, source, dist string, env ...string) {
	t.Helper()
	stubs := t.TempDir()
	for name, script := range map[string]string{
		"cosign": "#!/bin/sh\n" + `cp "$4" "${3#--bundle=}"` + "\n",
		"syft":   "#!/bin/sh\n" + `basename "$1" > "${3#spdx-json=}"` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(stubs, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env = append(env, "PATH="+stubs+string(os.PathListSeparator)+os.Getenv("PATH"))
	shell(t, source, env, `"$1" check
		"$1" release --clean --skip=publish,announce
		mv dist "$2"`, tool(t, "goreleaser"), dist)
}

// tool is the path of a program that `make release-tools` builds.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../hack/tools/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runScripts runs the scripts of testdata with the release: its files are in $DIST.
func runScripts(t *testing.T, source, dist string) {
	t.Helper()
	commit := strings.TrimSpace(shell(t, source, nil, "git rev-parse HEAD"))
	krew := tool(t, "krew")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"server": server},
		Setup: func(env *testscript.Env) error {
			bin, krewRoot := filepath.Join(env.WorkDir, "bin"), filepath.Join(env.WorkDir, "krew")
			env.Setenv("PATH", strings.Join([]string{filepath.Join(krewRoot, "bin"), bin, os.Getenv("PATH")}, ":"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("KREW_ROOT", krewRoot)
			env.Setenv("KREW_NO_UPGRADE_CHECK", "1")
			env.Setenv("DIST", dist)
			env.Setenv("VERSION", version)
			env.Setenv("COMMIT", commit)
			env.Setenv("COMMIT_TIME", commitTime)
			env.Setenv("GOOS", runtime.GOOS)
			env.Setenv("GOARCH", runtime.GOARCH)
			return errors.Join(os.Mkdir(bin, 0o700), os.Symlink(krew, filepath.Join(bin, "kubectl-krew")))
		},
	})
}

// server starts a K3s server for as long as the script runs, and makes it kubectl's.
func server(ts *testscript.TestScript, _ bool, _ []string) {
	cluster, err := k3stest.Start(context.Background(), k3stest.Options{Dir: ts.MkAbs("server")})
	ts.Check(err)
	ts.Defer(cluster.Stop)
	ts.Setenv("KUBECONFIG", cluster.Kubeconfig)
	ts.Setenv("SERVER_VERSION", cluster.Version)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// testManifest compares plugins/krew.yaml, which is the manifest of version 0.0.0 and
// without checksums.
func testManifest(t *testing.T, dist string) {
	t.Helper()
	want := strings.ReplaceAll(readFile(t, filepath.Join(dist, "krew", "k3s-token.yaml")), version, "0.0.0")
	want = regexp.MustCompile(`sha256: .*`).ReplaceAllString(want, `sha256: "`+strings.Repeat("0", 64)+`"`)
	valid := filepath.Join(t.TempDir(), "k3s-token.yaml") // the validator wants the plugin's name for the file
	if err := os.WriteFile(valid, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, "", nil, `"$1" -skip-install -manifest "$2"`, tool(t, "validate-krew-manifest"), valid)
	file := "../../plugins/krew.yaml"
	if os.Getenv("UPDATE_SCRIPTS") == "1" {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := readFile(t, file); got != want {
		t.Errorf("UPDATE_SCRIPTS=1 make release-test RUN=TestRelease/manifest updates the manifest, which is\n%s\nand not\n%s", got, want)
	}
}

// testSameFiles builds in another folder, with another umask, time zone and Go settings.
// It shares the first build's compile cache, unless K3STOKEN_COLD=1 asks for the minutes
// that it takes to do without.
func testSameFiles(t *testing.T, source, dist string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "another folder")
	clone := filepath.Join(dir, "clone")
	shell(t, "", nil, `umask 077
		git clone --quiet "$1" "$2"
		git -C "$2" remote set-url origin https://github.com/k3s-token/kubectl-k3s-token`, source, clone)
	env := []string{"TZ=Asia/Tokyo", "GOFLAGS=-ldflags=-v", "LC_ALL=C"}
	if os.Getenv("K3STOKEN_COLD") == "1" {
		env = append(env, "GOCACHE="+t.TempDir())
	}
	again := filepath.Join(dir, "dist")
	makeRelease(t, clone, again, env...)
	first, second := readFile(t, filepath.Join(dist, "checksums.txt")), readFile(t, filepath.Join(again, "checksums.txt"))
	if first != second {
		t.Errorf("one build has\n%s\nand the other\n%s", first, second)
	}
}
