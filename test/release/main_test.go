// Package release makes the release that .goreleaser.yaml describes, and installs
// it as a user would: `make release-test`. Nothing is published or signed.
package release

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const (
	project = "kubectl-k3s-token"
	binary  = "kubectl-k3s_token"
	shim    = "kubectl_complete-k3s_token"
	manPage = "kubectl-k3s-token.1"
	// version is that of the release that most tests look at.
	version = "0.1.0"
)

// commitTime is the time of the commit that is released. Every time in a
// release is this one.
var commitTime = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)

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
		return makeRelease(source, version, filepath.Join(dir, "dist"))
	})
	return m.Run()
}

// released makes the release when the first test asks for it.
var released func() (*build, error)

// build is a release that was made.
type build struct {
	source string // a clone with one commit
	dist   string // what goreleaser has built of it
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

// missing skips the test on a developer's machine that lacks a program, and
// fails it where all tests are meant to run.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// tool is the path of a program that `make release-tools` builds.
func tool(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(root(t), "hack", "tools", "bin", name)
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := k3stest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// commitSources commits what would be committed now in a repository of its own:
// goreleaser refuses a work tree with changes, and only there can the test choose
// tag and time. Files that are deleted are skipped.
func commitSources(dir string) error {
	root, err := k3stest.Root()
	if err != nil {
		return err
	}
	const script = `mkdir "$1"
		git ls-files -z --cached --others --exclude-standard |
			tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -C "$1" -xf -
		cd "$1"
		git init --quiet --initial-branch=main
		git remote add origin https://github.com/k3s-token/kubectl-k3s-token
		git add --all
		git commit --quiet --message=Release`
	return inGit(root, "sh", "-ec", script, "sh", dir)
}

// inGit runs a program that calls git, without the user's configuration, at the
// release's time.
func inGit(dir string, name string, args ...string) error {
	command := exec.Command(name, args...) //nolint:noctx // quick
	command.Dir = dir
	date := commitTime.Format(time.RFC3339)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_AUTHOR_DATE="+date,
		"GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com", "GIT_COMMITTER_DATE="+date)
	_, err := output(command)
	return err
}

// standIns replace programs that need an identity or minutes to build: a signature
// is the hash of what was signed, and an SBOM the name of what it describes.
var standIns = map[string]string{
	"cosign": `#!/bin/sh
for arg; do
  case $arg in --bundle=*) bundle=${arg#--bundle=} ;; esac
done
sha256sum < "$arg" | cut -d " " -f 1 > "$bundle"
`,
	"syft": `#!/bin/sh
basename "$1" > "${3#spdx-json=}"
`,
}

// makeRelease tags the clone's commit and makes the release that the workflow
// would make, with stand-ins for what signs it. It is moved to dist, since the
// next one takes its place in the clone.
func makeRelease(source, version, dist string, env ...string) (*build, error) {
	root, err := k3stest.Root()
	if err != nil {
		return nil, err
	}
	if err := inGit(source, "git", "tag", "v"+version); err != nil {
		return nil, err
	}
	programs := dist + "-stand-ins"
	if err := os.Mkdir(programs, 0o700); err != nil {
		return nil, err
	}
	for name, script := range standIns {
		if err := os.WriteFile(filepath.Join(programs, name), []byte(script), 0o700); err != nil {
			return nil, err
		}
	}
	command := exec.Command(filepath.Join(root, "hack", "tools", "bin", "goreleaser"), //nolint:noctx // ended by the test's own timeout
		"release", "--clean", "--skip=publish,announce")
	command.Dir = source
	command.Env = append(os.Environ(), "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	command.Env = append(command.Env, env...)
	if _, err := output(command); err != nil {
		return nil, err
	}
	return &build{source: source, dist: dist}, os.Rename(filepath.Join(source, "dist"), dist)
}

// output runs a command and returns what it prints to standard output.
func output(command *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(command.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}

// mustOutput is output for a test that cannot go on without it.
func mustOutput(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Env = env
	command.Dir = root(t)
	printed, err := output(command)
	if err != nil {
		t.Fatal(err)
	}
	return printed
}

// platform is an operating system and an architecture that is released.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

func (p platform) binary() string {
	if p.os == "windows" {
		return binary + ".exe"
	}
	return binary
}

func (p platform) shim() string {
	if p.os == "windows" {
		return shim + ".cmd"
	}
	return shim
}

func (p platform) archive() string {
	extension := "tar.gz"
	if p.os == "windows" {
		extension = "zip"
	}
	return fmt.Sprintf("%s_%s_%s_%s.%s", project, version, p.os, p.arch, extension)
}

// platforms are those that users have. The configuration, the manifest and the
// Makefile have to name all of them.
var platforms = []platform{
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"linux", "amd64"}, {"linux", "arm"}, {"linux", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// forEachPlatform runs a subtest for each.
func forEachPlatform(t *testing.T, f func(t *testing.T, p platform)) {
	for _, p := range platforms {
		t.Run(p.os+"-"+p.arch, func(t *testing.T) { f(t, p) })
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
