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
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

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
	if strings.HasSuffix(path, ".zip") {
		return readZip(t, path)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]member{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return members
		} else if err != nil {
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

func readZip(t *testing.T, path string) map[string]member {
	t.Helper()
	archive, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	members := map[string]member{}
	for _, entry := range archive.File {
		reader, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		reader.Close()
		if err != nil {
			t.Fatal(err)
		}
		members[entry.Name] = member{mode: entry.Mode(), owner: "root:root", time: entry.Modified, content: content}
	}
	return members
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

func TestArchivesHoldPlainFilesOnly(t *testing.T) {
	b := theRelease(t)
	forEachPlatform(t, func(t *testing.T, p platform) {
		members := readArchive(t, filepath.Join(b.dist, p.archive(version)))
		modes := map[string]fs.FileMode{p.binary(): 0o755, p.shim(): 0o755, "LICENSE": 0o644, "README.md": 0o644}
		sources := map[string]string{p.shim(): "plugins/" + p.shim(), "LICENSE": "LICENSE", "README.md": "README.md"}
		for _, page := range manPages(t, b) {
			modes["man/man1/"+page] = 0o644
			sources["man/man1/"+page] = "docs/man/" + page
		}
		if got, want := slices.Sorted(maps.Keys(members)), slices.Sorted(maps.Keys(modes)); !slices.Equal(got, want) {
			t.Fatalf("the archive holds %v, want %v", got, want)
		}
		for name, got := range members {
			if got.mode != modes[name] {
				t.Errorf("%s has mode %v, want the plain file %v", name, got.mode, modes[name])
			}
			if got.owner != "root:root" || !got.time.Equal(commitTime) {
				t.Errorf("%s is of %s at %s, want root:root at the time of the commit, %s", name, got.owner, got.time, commitTime)
			}
		}
		for name, source := range sources {
			if !bytes.Equal(members[name].content, readFile(t, filepath.Join(b.source, source))) {
				t.Errorf("%s is not the one of the commit", name)
			}
		}
	})
}

// manPages are the names of the man pages: one for each command, and the
// plugin's own.
func manPages(t *testing.T, b *build) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(b.source, "docs", "man", "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	for _, want := range []string{binary + ".1", binary + "-create.1"} {
		if !slices.Contains(names, want) {
			t.Fatalf("the man pages are %v, without %s", names, want)
		}
	}
	return names
}

func TestBinariesAreBuiltForTheirPlatform(t *testing.T) {
	b := theRelease(t)
	forEachPlatform(t, func(t *testing.T, p platform) {
		content := readArchive(t, filepath.Join(b.dist, p.archive(version)))[p.binary()].content
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
		if dir := []byte(b.source); bytes.Contains(content, dir) {
			t.Errorf("the binary holds the folder it was built in, %s", dir)
		}
	})
}

// unpacked is a folder with the archive for this machine.
func unpacked(t *testing.T, b *build) string {
	t.Helper()
	p := platform{runtime.GOOS, runtime.GOARCH}
	if !slices.Contains(platforms, p) {
		t.Skipf("nothing is released for %s", p)
	}
	dir := t.TempDir()
	for name, file := range readArchive(t, filepath.Join(b.dist, p.archive(version))) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), file.content, file.mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBinarySaysWhatItIs(t *testing.T) {
	b := theRelease(t)
	commit := strings.TrimSpace(mustOutput(t, os.Environ(), "git", "-C", b.source, "rev-parse", "HEAD"))
	printed := mustOutput(t, os.Environ(), filepath.Join(unpacked(t, b), binary), "version", "--client", "-o", "json")
	for _, want := range []string{`"version": "v` + version + `"`, `"commit": "` + commit + `"`, `"date": "` + commitTime.Format(time.RFC3339) + `"`} {
		if !strings.Contains(printed, want) {
			t.Errorf("want %s in %s", want, printed)
		}
	}
}

func TestShimIsWhatCompletionPrints(t *testing.T) {
	dir := unpacked(t, theRelease(t))
	if got := mustOutput(t, os.Environ(), filepath.Join(dir, binary), "completion"); got != string(readFile(t, filepath.Join(dir, shim))) {
		t.Errorf("plugins/%s is not up to date: run make update", shim)
	}
}

func TestChecksumsCoverAllThatIsDownloaded(t *testing.T) {
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
}

func TestTheSignatureIsOfTheChecksums(t *testing.T) {
	b := theRelease(t)
	signed := strings.TrimSpace(string(readFile(t, filepath.Join(b.dist, "checksums.txt.sigstore.json"))))
	if sum := fmt.Sprintf("%x", sha256.Sum256(readFile(t, filepath.Join(b.dist, "checksums.txt")))); signed != sum {
		t.Errorf("what was signed has the hash %s, and checksums.txt has %s", signed, sum)
	}
}

// checksums are those of checksums.txt, by file name.
func checksums(t *testing.T, dist string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for line := range strings.Lines(string(readFile(t, filepath.Join(dist, "checksums.txt")))) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("checksums.txt has the line %q", line)
		}
		sums[name] = sum
	}
	return sums
}

func TestDebPutsPluginAndCompletionOnPathAndPagesWhereManLooks(t *testing.T) {
	b := theRelease(t)
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		missing(t, "needs dpkg-deb, of the Debian package dpkg")
	}
	for _, arch := range []string{"amd64", "arm64", "armhf"} {
		listed := mustOutput(t, os.Environ(), dpkg, "--contents", filepath.Join(b.dist, fmt.Sprintf("%s_%s_%s.deb", project, version, arch)))
		for _, name := range []string{binary, shim} {
			if !hasLine(listed, "-rwxr-xr-x root/root", "./usr/bin/"+name) {
				t.Errorf("want the program /usr/bin/%s in the package for %s:\n%s", name, arch, listed)
			}
		}
		for _, page := range manPages(t, b) {
			if !hasLine(listed, "-rw-r--r-- root/root", "./usr/share/man/man1/"+page) {
				t.Errorf("want the page %s in the package for %s:\n%s", page, arch, listed)
			}
		}
	}
}

func TestRPMPutsPluginAndCompletionOnPathAndPagesWhereManLooks(t *testing.T) {
	b := theRelease(t)
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		missing(t, "needs rpm, of the package rpm")
	}
	for _, arch := range []string{"x86_64", "aarch64", "armv6hl"} {
		listed := mustOutput(t, os.Environ(), rpm, "-qlvp", filepath.Join(b.dist, fmt.Sprintf("%s-%s-1.%s.rpm", project, version, arch)))
		for _, name := range []string{binary, shim} {
			if !hasLine(listed, "-rwxr-xr-x", "/usr/bin/"+name) {
				t.Errorf("want the program /usr/bin/%s in the package for %s:\n%s", name, arch, listed)
			}
		}
		for _, page := range manPages(t, b) {
			if !hasLine(listed, "-rw-r--r--", "/usr/share/man/man1/"+page) {
				t.Errorf("want the page %s in the package for %s:\n%s", page, arch, listed)
			}
		}
	}
}

func hasLine(text, prefix, suffix string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) && strings.HasSuffix(line, suffix) {
			return true
		}
	}
	return false
}

// cloneSource clones the released commit, without its tag, for another umask
// than the first one's.
func cloneSource(t *testing.T, b *build, dir string) string {
	t.Helper()
	clone := filepath.Join(dir, "clone")
	const script = `umask 077
		git clone --quiet --no-tags "$1" "$2"
		git -C "$2" remote set-url origin https://github.com/k3s-token/kubectl-k3s-token`
	mustOutput(t, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null"), "sh", "-ec", script, "sh", b.source, clone)
	return clone
}

// The second build has another folder, umask, time zone and Go settings. It
// shares the first one's compile cache, unless K3STOKEN_COLD=1 asks for the
// minutes that it takes to do without.
func TestSameCommitGivesSameFiles(t *testing.T) {
	b := theRelease(t)
	dir := filepath.Join(t.TempDir(), "another folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	source := cloneSource(t, b, dir)
	env := []string{"TZ=Asia/Tokyo", "GOFLAGS=-ldflags=-v", "LC_ALL=C"}
	if os.Getenv("K3STOKEN_COLD") == "1" {
		env = append(env, "GOCACHE="+t.TempDir())
	}
	second, err := makeRelease(source, version, filepath.Join(dir, "dist"), env...)
	if err != nil {
		t.Fatal(err)
	}
	first, again := checksums(t, b.dist), checksums(t, second.dist)
	if len(first) == 0 || len(first) != len(again) {
		t.Fatalf("the builds have %d and %d files", len(first), len(again))
	}
	for name, sum := range first {
		if again[name] != sum {
			t.Errorf("%s is %s in one build and %s in the other", name, sum, again[name])
		}
	}
}
