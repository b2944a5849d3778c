package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	goversion "go/version"
)

// `make vet-all` looks at what is released.
func TestMakefileHasThePlatforms(t *testing.T) {
	line := regexp.MustCompile(`(?m)^PLATFORMS := (.*)$`).FindSubmatch(readFile(t, filepath.Join(root(t), "Makefile")))
	if want := fmt.Sprint(platforms); line == nil || "["+string(line[1])+"]" != want {
		t.Errorf("the Makefile has %q, want %s", line, want)
	}
}

// Each module is built with the Go version that the workflows read from go.mod.
func TestOneGoVersionBuildsAllModules(t *testing.T) {
	toolchain := regexp.MustCompile(`(?m)^toolchain go(.*)$`).FindSubmatch(readFile(t, filepath.Join(root(t), "go.mod")))
	if toolchain == nil {
		t.Fatal("go.mod names no toolchain")
	}
	for _, pattern := range []string{"*/go.mod", "*/*/go.mod", "*/*/*/go.mod"} {
		modules, err := filepath.Glob(filepath.Join(root(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range modules {
			needs := regexp.MustCompile(`(?m)^go (.*)$`).FindSubmatch(readFile(t, module))
			if needs == nil || goversion.Compare("go"+string(needs[1]), "go"+string(toolchain[1])) > 0 {
				t.Errorf("%s needs Go %s, and go.mod has %s", module, needs, toolchain[1])
			}
		}
	}
}

func TestGoreleaserAcceptsTheConfiguration(t *testing.T) {
	b := theRelease(t)
	command := exec.CommandContext(t.Context(), tool(t, "goreleaser"), "check")
	command.Dir = b.source
	printed, err := command.CombinedOutput()
	if err != nil || bytes.Contains(printed, []byte("deprecated")) {
		t.Errorf("goreleaser check: %v\n%s", err, printed)
	}
}

// member is a file in an archive.
type member struct {
	mode    fs.FileMode // with the type
	owner   string      // tar only
	time    time.Time
	content []byte
}

// readArchive reads all that is in an archive.
func readArchive(t *testing.T, path string) map[string]member {
	t.Helper()
	members := map[string]member{}
	if strings.HasSuffix(path, ".zip") {
		archive, err := zip.OpenReader(path)
		if err != nil {
			t.Fatal(err)
		}
		defer archive.Close()
		for _, entry := range archive.File {
			content, err := fs.ReadFile(archive, entry.Name)
			if err != nil {
				t.Fatal(err)
			}
			members[entry.Name] = member{mode: entry.Mode(), owner: "root:root", time: entry.Modified, content: content}
		}
		return members
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(readFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		members[header.Name] = member{
			mode: header.FileInfo().Mode(), owner: header.Uname + ":" + header.Gname, time: header.ModTime, content: content,
		}
	}
}

func TestArchivesHoldPlainFilesOnly(t *testing.T) {
	b := theRelease(t)
	forEachPlatform(t, func(t *testing.T, p platform) {
		members := readArchive(t, filepath.Join(b.dist, p.archive()))
		for _, name := range []string{p.binary(), p.shim(), "LICENSE", "README.md", "man/man1/" + manPage, "man/man1/kubectl-k3s-token-create.1"} {
			if members[name].content == nil {
				t.Errorf("the archive holds %v, without %s", slices.Sorted(maps.Keys(members)), name)
			}
		}
		for name, got := range members {
			want := fs.FileMode(0o644)
			if name == p.binary() || name == p.shim() {
				want = 0o755
			}
			if got.mode != want || got.owner != "root:root" || !got.time.Equal(commitTime) {
				t.Errorf("%s has mode %v, owner %s and time %s; want the plain file %v of root:root at the time of the commit", name, got.mode, got.owner, got.time, want)
			}
		}
	})
}

func TestBinariesAreBuiltForTheirPlatform(t *testing.T) {
	b := theRelease(t)
	forEachPlatform(t, func(t *testing.T, p platform) {
		content := readArchive(t, filepath.Join(b.dist, p.archive()))[p.binary()].content
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"GOOS": p.os, "GOARCH": p.arch, "CGO_ENABLED": "0", "-trimpath": "true", "-tags": "kustomize_disable_go_plugin_support",
		}
		if p.arch == "arm" {
			want["GOARM"] = "6"
		}
		for _, setting := range info.Settings {
			if value, ok := want[setting.Key]; ok && value == setting.Value {
				delete(want, setting.Key)
			}
		}
		if len(want) > 0 {
			t.Errorf("the binary is not built with %v", want)
		}
		if bytes.Contains(content, []byte(b.source)) {
			t.Errorf("the binary holds the folder it was built in, %s", b.source)
		}
	})
}

func TestBinarySaysWhatItIs(t *testing.T) {
	b := theRelease(t)
	dir := t.TempDir()
	for name, file := range readArchive(t, filepath.Join(b.dist, platform{runtime.GOOS, runtime.GOARCH}.archive())) {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), file.content, file.mode); err != nil {
			t.Fatal(err)
		}
	}
	commit := strings.TrimSpace(mustOutput(t, os.Environ(), "git", "-C", b.source, "rev-parse", "HEAD"))
	printed := mustOutput(t, os.Environ(), filepath.Join(dir, binary), "version", "--client", "-o", "json")
	for _, want := range []string{`"version": "v` + version + `"`, `"commit": "` + commit + `"`, `"date": "` + commitTime.Format(time.RFC3339) + `"`} {
		if !strings.Contains(printed, want) {
			t.Errorf("want %s in %s", want, printed)
		}
	}
	if got := mustOutput(t, os.Environ(), filepath.Join(dir, binary), "completion"); got != string(readFile(t, filepath.Join(dir, shim))) {
		t.Errorf("%s in the archive is not what completion prints:\n%s", shim, got)
	}
}

func TestChecksumsCoverAllDownloadsAndAreSigned(t *testing.T) {
	b := theRelease(t)
	want := map[string]string{}
	for _, pattern := range []string{"*.tar.gz", "*.zip", "*.deb", "*.rpm", "*.spdx.json"} {
		paths, err := filepath.Glob(filepath.Join(b.dist, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			want[filepath.Base(path)] = fmt.Sprintf("%x", sha256.Sum256(readFile(t, path)))
		}
	}
	if len(want) != 2*len(platforms)+6 {
		t.Errorf("there are %d files, want %d archives with an SBOM each, 3 debs and 3 rpms", len(want), len(platforms))
	}
	if got := checksums(t, b.dist); !maps.Equal(got, want) {
		t.Errorf("checksums.txt has %v, want %v", got, want)
	}
	signed := strings.TrimSpace(string(readFile(t, filepath.Join(b.dist, "checksums.txt.sigstore.json"))))
	if sum := fmt.Sprintf("%x", sha256.Sum256(readFile(t, filepath.Join(b.dist, "checksums.txt")))); signed != sum {
		t.Errorf("the signature is of %s, and checksums.txt has the hash %s", signed, sum)
	}
}

// checksums are those of checksums.txt, by file name.
func checksums(t *testing.T, dist string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for line := range strings.Lines(string(readFile(t, filepath.Join(dist, "checksums.txt")))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	return sums
}

func TestPackagesPutPluginAndCompletionOnPath(t *testing.T) {
	b := theRelease(t)
	for format, list := range map[string][]string{"deb": {"dpkg-deb", "--contents"}, "rpm": {"rpm", "-qlvp"}} {
		t.Run(format, func(t *testing.T) {
			if _, err := exec.LookPath(list[0]); err != nil {
				missing(t, "needs "+list[0])
			}
			packages, err := filepath.Glob(filepath.Join(b.dist, "*."+format))
			if err != nil || len(packages) != 3 {
				t.Fatalf("the packages are %v (%v), want 3", packages, err)
			}
			for _, path := range packages {
				listed := mustOutput(t, os.Environ(), list[0], list[1], path)
				for name, mode := range map[string]string{
					"/usr/bin/" + binary: "-rwxr-xr-x", "/usr/bin/" + shim: "-rwxr-xr-x", "/usr/share/man/man1/" + manPage: "-rw-r--r--",
				} {
					if !regexp.MustCompile(`(?m)^` + mode + ` .*` + regexp.QuoteMeta(name) + `$`).MatchString(listed) {
						t.Errorf("want %s in %s:\n%s", name, filepath.Base(path), listed)
					}
				}
			}
		})
	}
}

// The second build has another folder, umask, time zone and Go settings. It
// shares the first one's compile cache, unless K3STOKEN_COLD=1 asks for the
// minutes that it takes to do without.
func TestSameCommitGivesSameFiles(t *testing.T) {
	b := theRelease(t)
	dir := filepath.Join(t.TempDir(), "another folder")
	source := filepath.Join(dir, "clone")
	const script = `umask 077
		git clone --quiet --no-tags "$1" "$2"
		git -C "$2" remote set-url origin https://github.com/k3s-token/kubectl-k3s-token`
	if err := inGit(b.source, "sh", "-ec", script, "sh", b.source, source); err != nil {
		t.Fatal(err)
	}
	env := []string{"TZ=Asia/Tokyo", "GOFLAGS=-ldflags=-v", "LC_ALL=C"}
	if os.Getenv("K3STOKEN_COLD") == "1" {
		env = append(env, "GOCACHE="+t.TempDir())
	}
	second, err := makeRelease(source, version, filepath.Join(dir, "dist"), env...)
	if err != nil {
		t.Fatal(err)
	}
	first, again := checksums(t, b.dist), checksums(t, second.dist)
	if !maps.Equal(first, again) {
		t.Errorf("one build has %v, and the other %v", first, again)
	}
}
