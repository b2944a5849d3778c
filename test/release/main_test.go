// Package release makes the release that .goreleaser.yaml describes, and installs
// it as a user would: `make release-test`. Nothing is published or signed.
package release

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	// version is that of the release, and commitTime the time of its commit.
	version    = "0.1.0"
	commitTime = "2026-01-02T03:04:06Z"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "k3t")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	released = sync.OnceValues(func() (*build, error) {
		source := filepath.Join(dir, "source")
		if err := commitSources(source); err != nil {
			return nil, err
		}
		return makeRelease(source, filepath.Join(dir, "dist"))
	})
	return m.Run()
}

// released makes the release when the first test asks for it.
var released func() (*build, error)

// build is a release that was made.
type build struct {
	source string // a clone with one commit
	dist   string // the folder with the files that goreleaser has built
}

// theRelease returns the release. The test is skipped unless it is asked for, since
// the tools for it take minutes to build.
func theRelease(t *testing.T) *build {
	t.Helper()
	if os.Getenv("K3STOKEN_RELEASE") != "1" {
		t.Skip("run make release-test: it builds goreleaser and krew, and a release with them")
	}
	b, err := released()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// commitSources commits the files of the work tree in a repository of its own.
// goreleaser refuses a work tree with changes, and only there can the test choose
// tag and time. Files that are deleted or ignored are skipped.
func commitSources(dir string) error {
	root, err := k3stest.Root()
	if err != nil {
		return err
	}
	_, err = output(root, nil, "sh", "-ec", `mkdir "$1"
		git ls-files -z --cached --others --exclude-standard |
			tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -C "$1" -xf -
		cd "$1"
		git init --quiet --initial-branch=main
		git remote add origin https://github.com/k3s-token/kubectl-k3s-token
		git add --all
		git commit --quiet --message=Release
		git tag "v$2"`, "sh", dir, version)
	return err
}

// stubs replace programs that need an identity or minutes to build. A signature is
// a copy of the signed file, and an SBOM the name of the described one.
var stubs = map[string]string{
	"cosign": "#!/bin/sh\n" + `cp "$4" "${3#--bundle=}"` + "\n",
	"syft":   "#!/bin/sh\n" + `basename "$1" > "${3#spdx-json=}"` + "\n",
}

// makeRelease makes the release of a clone that the workflow would make, with
// stand-ins for the signing programs, and moves it to dist.
func makeRelease(source, dist string, env ...string) (*build, error) {
	programs := dist + "-stand-ins"
	if err := os.MkdirAll(programs, 0o700); err != nil {
		return nil, err
	}
	for name, script := range stubs {
		if err := os.WriteFile(filepath.Join(programs, name), []byte(script), 0o700); err != nil {
			return nil, err
		}
	}
	env = append(env, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	_, err := output(source, env, "sh", "-ec", `"$1" check
		"$1" release --clean --skip=publish,announce
		mv dist "$2"`, "sh", tool("goreleaser"), dist)
	return &build{source: source, dist: dist}, err
}

// tool is the path of a program that `make release-tools` builds.
func tool(name string) string {
	root, err := k3stest.Root()
	if err != nil {
		panic(err)
	}
	return filepath.Join(root, "hack", "tools", "bin", name)
}

// output runs a program in a folder and returns what it prints to standard output.
// A git that it runs has no configuration of the user's, and commits at the
// release's time.
func output(dir string, env []string, name string, args ...string) (string, error) {
	command := exec.Command(name, args...) //nolint:noctx // ended by the tests' own time-out
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_AUTHOR_DATE="+commitTime,
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com", "GIT_COMMITTER_DATE="+commitTime)
	command.Env = append(command.Env, env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(command.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}

// mustOutput is output for a test that cannot go on without it.
func mustOutput(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	printed, err := output(dir, env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return printed
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
