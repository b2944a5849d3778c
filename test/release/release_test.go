package release

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// platforms are those that users have, and the extension of their archives.
var platforms = map[string]string{
	"darwin/amd64": "tar.gz", "darwin/arm64": "tar.gz",
	"linux/amd64": "tar.gz", "linux/arm": "tar.gz", "linux/arm64": "tar.gz",
	"windows/amd64": "zip", "windows/arm64": "zip",
}

// krew is an empty krew for a platform, with nothing of the machine's user.
type krew struct {
	root string
	env  []string
}

// installWithKrew has krew install the release's archive for a platform by the
// release's manifest, whose checksum it compares.
func installWithKrew(t *testing.T, b *build, goos, goarch string, env ...string) *krew {
	t.Helper()
	home := t.TempDir()
	if err := os.Symlink(tool("krew"), filepath.Join(home, "kubectl-krew")); err != nil {
		t.Fatal(err)
	}
	k := &krew{root: filepath.Join(home, "krew")}
	k.env = append(env, "PATH="+strings.Join([]string{filepath.Join(k.root, "bin"), home, os.Getenv("PATH")}, ":"),
		"HOME="+home, "KREW_ROOT="+k.root, "KREW_NO_UPGRADE_CHECK=1", "KREW_OS="+goos, "KREW_ARCH="+goarch)
	archive := fmt.Sprintf("kubectl-k3s-token_%s_%s_%s.%s", version, goos, goarch, platforms[goos+"/"+goarch])
	k.kubectl(t, "krew", "install", "--manifest", filepath.Join(b.dist, "krew", "k3s-token.yaml"), "--archive", filepath.Join(b.dist, archive))
	return k
}

// kubectl runs kubectl, which runs krew and the plugin.
func (k *krew) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return mustOutput(t, "", k.env, "kubectl", args...)
}

// TestKrewInstallsEveryPlatform also looks at the installed files. krew refuses
// archives that hold anything but plain files.
func TestKrewInstallsEveryPlatform(t *testing.T) {
	b := theRelease(t)
	for platform := range platforms {
		t.Run(platform, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(platform, "/")
			program, shim := "kubectl-k3s_token", "kubectl_complete-k3s_token"
			if goos == "windows" {
				program, shim = program+".exe", shim+".cmd"
			}
			k := installWithKrew(t, b, goos, goarch)
			store := filepath.Join(k.root, "store", "k3s-token", "v"+version)
			for name, mode := range map[string]os.FileMode{
				program: 0o755, shim: 0o755, "LICENSE": 0o644, "README.md": 0o644, "man/man1/kubectl-k3s-token-create.1": 0o644,
			} {
				if info, err := os.Stat(filepath.Join(store, name)); err != nil || info.Mode() != mode {
					t.Errorf("%s is %v (%v), want the file mode %v", name, info, err, mode)
				}
			}
			info, err := buildinfo.ReadFile(filepath.Join(k.root, "bin", program))
			if err != nil {
				t.Fatal(err)
			}
			built := info.String()
			for _, want := range []string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0", "-trimpath=true", "-tags=kustomize_disable_go_plugin_support"} {
				if !strings.Contains(built, "build\t"+want+"\n") || goarch == "arm" && !strings.Contains(built, "GOARM=6") {
					t.Errorf("the binary is not built with %s:\n%s", want, built)
				}
			}
		})
	}
}

func TestInstalledPluginCreatesAndListsTokens(t *testing.T) {
	b := theRelease(t)
	cluster, err := k3stest.Start(t.Context(), k3stest.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	}()
	k := installWithKrew(t, b, runtime.GOOS, runtime.GOARCH, "KUBECONFIG="+cluster.Kubeconfig)
	commit := strings.TrimSpace(mustOutput(t, b.source, nil, "git", "rev-parse", "HEAD"))
	printed := k.kubectl(t, "k3s-token", "version", "-o", "json")
	for _, want := range []string{"v" + version, commit, commitTime, cluster.Version} {
		if !strings.Contains(printed, `"`+want+`"`) {
			t.Errorf("version does not print %s:\n%s", want, printed)
		}
	}
	token := regexp.MustCompile(`^K10[0-9a-f]{64}::([a-z0-9]{6})\.[a-z0-9]{16}\n$`).FindStringSubmatch(k.kubectl(t, "k3s-token", "create"))
	if token == nil {
		t.Fatal("create has not printed a token in secure format, and nothing else")
	}
	if names := k.kubectl(t, "k3s-token", "list", "-o", "name"); names != "secret/bootstrap-token-"+token[1]+"\n" {
		t.Errorf("the list has %q, want token %s", names, token[1])
	}
	// krew puts the program alone on the PATH. A link of this name to it completes.
	program := filepath.Join(k.root, "bin", "kubectl-k3s_token")
	if err := os.Symlink(program, filepath.Join(k.root, "bin", "kubectl_complete-k3s_token")); err != nil {
		t.Fatal(err)
	}
	if offers := k.kubectl(t, "__complete", "k3s-token", "delete", ""); !strings.Contains(offers, token[1]) {
		t.Errorf("completion does not offer %s:\n%s", token[1], offers)
	}
}

// plugins/krew.yaml is the manifest of version 0.0.0, without checksums.
func TestKrewManifestInTheRepositoryIsUpToDate(t *testing.T) {
	b := theRelease(t)
	want := strings.ReplaceAll(readFile(t, filepath.Join(b.dist, "krew", "k3s-token.yaml")), version, "0.0.0")
	want = regexp.MustCompile(`sha256: .*`).ReplaceAllString(want, `sha256: "`+strings.Repeat("0", 64)+`"`)
	valid := filepath.Join(t.TempDir(), "k3s-token.yaml") // the validator wants the plugin's name for the file
	if err := os.WriteFile(valid, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOutput(t, "", nil, tool("validate-krew-manifest"), "-skip-install", "-manifest", valid)
	file := "../../plugins/krew.yaml"
	if os.Getenv("UPDATE_SCRIPTS") == "1" {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := readFile(t, file); got != want {
		t.Errorf("UPDATE_SCRIPTS=1 make release-test RUN=TestKrewManifest updates plugins/krew.yaml; it is\n%s\nand goreleaser writes\n%s", got, want)
	}
}

func TestChecksumsCoverAllDownloadsAndAreSigned(t *testing.T) {
	b := theRelease(t)
	checked := mustOutput(t, b.dist, nil, "sha256sum", "--check", "checksums.txt")
	for extension, want := range map[string]int{"tar.gz": 5, "zip": 2, "spdx.json": 7, "deb": 3, "rpm": 3} {
		if got := strings.Count(checked, "."+extension+": OK\n"); got != want {
			t.Errorf("the checksums have %d files .%s, want %d:\n%s", got, extension, want, checked)
		}
	}
	if readFile(t, filepath.Join(b.dist, "checksums.txt.sigstore.json")) != readFile(t, filepath.Join(b.dist, "checksums.txt")) {
		t.Error("the signature is of another file than checksums.txt")
	}
}

func TestPackagesPutPluginAndCompletionOnPath(t *testing.T) {
	b := theRelease(t)
	for format, list := range map[string][]string{"deb": {"dpkg-deb", "--contents"}, "rpm": {"rpm", "-qlvp"}} {
		if _, err := exec.LookPath(list[0]); err != nil {
			t.Logf("not looked at: %v", err)
			continue
		}
		packages, err := filepath.Glob(filepath.Join(b.dist, "*."+format))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range packages {
			listed := mustOutput(t, "", nil, list[0], list[1], path)
			for _, want := range []string{
				`-rwxr-xr-x .*/usr/bin/kubectl-k3s_token`, `-rwxr-xr-x .*/usr/bin/kubectl_complete-k3s_token`,
				`-rw-r--r-- .*/usr/share/man/man1/kubectl-k3s-token\.1`,
			} {
				if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(listed) {
					t.Errorf("%s has no %s:\n%s", filepath.Base(path), want, listed)
				}
			}
		}
	}
}

// The second build has another folder, umask, time zone and Go settings. It
// shares the first one's compile cache, unless K3STOKEN_COLD=1 asks for the
// minutes that it takes to do without.
func TestSameCommitGivesSameFiles(t *testing.T) {
	b := theRelease(t)
	dir := filepath.Join(t.TempDir(), "another folder")
	source := filepath.Join(dir, "clone")
	mustOutput(t, "", nil, "sh", "-ec", `umask 077
		git clone --quiet "$1" "$2"
		git -C "$2" remote set-url origin https://github.com/k3s-token/kubectl-k3s-token`, "sh", b.source, source)
	env := []string{"TZ=Asia/Tokyo", "GOFLAGS=-ldflags=-v", "LC_ALL=C"}
	if os.Getenv("K3STOKEN_COLD") == "1" {
		env = append(env, "GOCACHE="+t.TempDir())
	}
	again, err := makeRelease(source, filepath.Join(dir, "dist"), env...)
	if err != nil {
		t.Fatal(err)
	}
	first, second := readFile(t, filepath.Join(b.dist, "checksums.txt")), readFile(t, filepath.Join(again.dist, "checksums.txt"))
	if first != second {
		t.Errorf("one build has\n%s\nand the other\n%s", first, second)
	}
}
