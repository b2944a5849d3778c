package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

const releases = "https://github.com/k3s-token/kubectl-k3s-token/releases/download"

// manifestOf is the krew manifest of a release.
func manifestOf(t *testing.T, b *build) string {
	t.Helper()
	return string(readFile(t, filepath.Join(b.dist, "krew", "k3s-token.yaml")))
}

// validate asks krew's own validator, which wants the plugin's name for the file.
func validate(t *testing.T, manifest string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "k3s-token.yaml")
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOutput(t, os.Environ(), tool(t, "validate-krew-manifest"), "-skip-install", "-manifest", path)
}

func TestKrewManifestNamesEveryArchive(t *testing.T) {
	b := theRelease(t)
	validate(t, manifestOf(t, b))
	var manifest struct {
		Spec struct {
			ShortDescription string
			Platforms        []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, Sha256, Bin string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(manifestOf(t, b)), &manifest); err != nil {
		t.Fatal(err)
	}
	if got := manifest.Spec.ShortDescription; len(got) > 50 {
		t.Errorf("the short description has %d characters, and krew-index takes 50: %s", len(got), got)
	}
	type entry struct{ uri, sha256, bin string }
	got, sums := map[platform]entry{}, checksums(t, b.dist)
	for _, p := range manifest.Spec.Platforms {
		got[platform{p.Selector.MatchLabels["os"], p.Selector.MatchLabels["arch"]}] = entry{p.URI, p.Sha256, p.Bin}
	}
	for _, p := range platforms {
		name := p.archive()
		if want := (entry{releases + "/v" + version + "/" + name, sums[name], p.binary()}); got[p] != want {
			t.Errorf("the manifest has %+v for %s, want %+v", got[p], p, want)
		}
	}
	if len(got) != len(platforms) {
		t.Errorf("the manifest has %v, want %v", got, platforms)
	}
}

// plugins/krew.yaml is the manifest of version 0.0.0, without checksums.
func TestKrewManifestInTheRepositoryIsUpToDate(t *testing.T) {
	b := theRelease(t)
	want := strings.ReplaceAll(manifestOf(t, b), version, "0.0.0")
	want = regexp.MustCompile(`sha256: .*`).ReplaceAllString(want, `sha256: "`+strings.Repeat("0", 64)+`"`)
	validate(t, want)
	file := filepath.Join(root(t), "plugins", "krew.yaml")
	if os.Getenv("UPDATE_SCRIPTS") == "1" {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(readFile(t, file)); got != want {
		t.Errorf("UPDATE_SCRIPTS=1 make release-test RUN=TestKrewManifest updates plugins/krew.yaml; it is\n%s\nand goreleaser writes\n%s", got, want)
	}
}

// krew is an empty krew, and an environment with nothing of the machine's user.
type krew struct {
	root string
	env  []string
}

func newKrew(t *testing.T, env ...string) *krew {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		missing(t, "needs kubectl: https://kubernetes.io/docs/tasks/tools tells how to install it")
	}
	home := t.TempDir()
	// kubectl finds krew as it finds any plugin.
	if err := os.Symlink(tool(t, "krew"), filepath.Join(home, "kubectl-krew")); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(home, "krew")
	return &krew{root: root, env: append([]string{
		"PATH=" + strings.Join([]string{filepath.Join(root, "bin"), home, os.Getenv("PATH")}, ":"),
		"HOME=" + home, "KREW_ROOT=" + root, "KREW_NO_UPGRADE_CHECK=1",
	}, env...)}
}

// kubectl runs kubectl, which runs krew and the plugin.
func (k *krew) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return mustOutput(t, k.env, "kubectl", args...)
}

func (k *krew) install(t *testing.T, b *build, p platform) {
	t.Helper()
	k.kubectl(t, "krew", "install", "--manifest", filepath.Join(b.dist, "krew", "k3s-token.yaml"),
		"--archive", filepath.Join(b.dist, p.archive()))
}

func TestKrewInstallsEveryPlatform(t *testing.T) {
	b := theRelease(t)
	forEachPlatform(t, func(t *testing.T, p platform) {
		k := newKrew(t, "KREW_OS="+p.os, "KREW_ARCH="+p.arch)
		k.install(t, b, p)
		store := filepath.Join(k.root, "store", "k3s-token", "v"+version)
		for _, path := range []string{
			filepath.Join(k.root, "bin", p.binary()), // what kubectl finds
			filepath.Join(store, "LICENSE"), filepath.Join(store, p.shim()),
		} {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("krew has not installed it: %v", err)
			}
		}
	})
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
	k := newKrew(t, "KUBECONFIG="+cluster.Kubeconfig)
	k.install(t, b, platform{runtime.GOOS, runtime.GOARCH})
	if printed := k.kubectl(t, "k3s-token", "version"); !strings.Contains(printed, "v"+version) || !strings.Contains(printed, cluster.Version) {
		t.Errorf("want v%s and the server's %s:\n%s", version, cluster.Version, printed)
	}
	parts := regexp.MustCompile(`^K10[0-9a-f]{64}::([a-z0-9]{6})\.([a-z0-9]{16})\n$`).FindStringSubmatch(k.kubectl(t, "k3s-token", "create"))
	if parts == nil {
		t.Fatal("create has not printed a token in secure format, and nothing else")
	}
	id, secret := parts[1], parts[2]
	if listed := k.kubectl(t, "k3s-token", "list", "-o", "yaml"); !strings.Contains(listed, "id: "+id+"\n") || strings.Contains(listed, secret) {
		t.Errorf("want the id %s in the list, without the secret", id)
	}
	// krew puts the program alone on the PATH. A link of this name to it completes.
	if err := os.Symlink(filepath.Join(k.root, "bin", binary), filepath.Join(k.root, "bin", shim)); err != nil {
		t.Fatal(err)
	}
	if offers := k.kubectl(t, "__complete", "k3s-token", "delete", ""); !strings.Contains(offers, id) {
		t.Errorf("want the id %s among the completions:\n%s", id, offers)
	}
}
