package release

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// writeManifest writes a manifest under the plugin's name, as krew wants it.
func writeManifest(t *testing.T, dir, content string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "k3s-token.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// validate asks krew's own validator. It is not let to install, which would
// look for newer versions of krew on the network; TestKrewInstalls does that.
func validate(t *testing.T, content string) {
	t.Helper()
	path := writeManifest(t, t.TempDir(), content)
	mustOutput(t, os.Environ(), tool(t, "validate-krew-manifest"), "-skip-install", "-manifest", path)
}

func TestKrewAcceptsTheTemplate(t *testing.T) {
	requireTools(t)
	validate(t, string(readFile(t, filepath.Join(root(t), "plugins", "krew.yaml"))))
}

func TestKrewManifestIsOfTheRelease(t *testing.T) {
	b := theRelease(t)
	rendered := renderedManifest(t, b.dist)
	validate(t, rendered)
	if strings.Contains(rendered, "#") {
		t.Errorf("the manifest for users has comments:\n%s", rendered)
	}
	m := parseManifest(t, []byte(rendered))
	checkManifest(t, m, version)
	sums := checksums(t, b.dist)
	for _, entry := range m.Spec.Platforms {
		if name := filepath.Base(entry.URI); entry.Sha256 != sums[name] {
			t.Errorf("%s has the checksum %q, want %q", name, entry.Sha256, sums[name])
		}
	}
}

func TestKrewManifestWantsTheArchivesThatWereBuilt(t *testing.T) {
	b := theRelease(t)
	for name, c := range map[string]struct{ remove, add, want string }{
		"one is missing":    {remove: "kubectl-k3s-token_0.1.0_linux_arm64.tar.gz", want: "names an archive that was not built"},
		"one is not listed": {add: "kubectl-k3s-token_0.1.0_plan9_amd64.tar.gz", want: "add to plugins/krew.yaml what .goreleaser.yaml builds: kubectl-k3s-token_0.1.0_plan9_amd64.tar.gz"},
		"nothing was built": {remove: "metadata.json", want: "run `make snapshot`"},
	} {
		t.Run(name, func(t *testing.T) {
			dist := filepath.Join(t.TempDir(), "dist")
			if err := os.Mkdir(dist, 0o700); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(b.dist)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if !entry.IsDir() && entry.Name() != c.remove {
					if err := os.Symlink(filepath.Join(b.dist, entry.Name()), filepath.Join(dist, entry.Name())); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.add != "" {
				if err := os.WriteFile(filepath.Join(dist, c.add), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(t.Context(), "go", "run", "./hack/release", "krew", dist)
			command.Dir = root(t)
			if _, err := output(command); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// krew is an empty krew, and an environment with nothing of the machine's user.
type krew struct {
	root string
	env  []string
}

func newKrew(t *testing.T) *krew {
	t.Helper()
	dir := t.TempDir()
	k := &krew{root: filepath.Join(dir, "krew")}
	programs := filepath.Join(dir, "bin")
	home := filepath.Join(dir, "home")
	for _, folder := range []string{programs, home} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// kubectl finds krew as it finds any plugin.
	if err := os.Symlink(tool(t, "krew"), filepath.Join(programs, "kubectl-krew")); err != nil {
		t.Fatal(err)
	}
	k.env = []string{
		"PATH=" + strings.Join([]string{filepath.Join(k.root, "bin"), programs, os.Getenv("PATH")}, string(os.PathListSeparator)),
		"HOME=" + home,
		"KREW_ROOT=" + k.root,
		"KREW_NO_UPGRADE_CHECK=1",
		"GIT_CONFIG_SYSTEM=/dev/null",
	}
	return k
}

// kubectl runs kubectl and returns all that it prints.
func (k *krew) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	printed, err := k.try(t, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, printed)
	}
	return printed
}

func (k *krew) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "kubectl", args...)
	command.Env = k.env
	printed, err := command.CombinedOutput()
	return string(printed), err
}

func requireKubectl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		missing(t, "needs kubectl: https://kubernetes.io/docs/tasks/tools tells how to install it; on Debian, apt-get install kubernetes-client")
	}
}

func TestKrewInstallsEveryPlatform(t *testing.T) {
	requireKubectl(t)
	b := theRelease(t)
	rendered := writeManifest(t, t.TempDir(), renderedManifest(t, b.dist))
	forEachPlatform(t, func(t *testing.T, p platform) {
		k := newKrew(t)
		k.env = append(k.env, "KREW_OS="+p.os, "KREW_ARCH="+p.arch)
		k.kubectl(t, "krew", "install", "--manifest", rendered, "--archive", filepath.Join(b.dist, p.archive(version)))
		// The link in bin is what kubectl finds; Windows needs the extension.
		installed := filepath.Join(k.root, "bin", p.binary())
		if _, err := os.Stat(installed); err != nil {
			t.Errorf("krew has not put the plugin on the PATH: %v", err)
		}
		for _, name := range []string{"LICENSE", p.shim()} {
			if _, err := os.Stat(filepath.Join(k.root, "store", "k3s-token", "v"+version, name)); err != nil {
				t.Errorf("krew has not unpacked %s: %v", name, err)
			}
		}
	})
}

// upgradeVersion is of a release that is newer than the others' and made for
// this machine's platform alone, to save the time for the rest.
const upgradeVersion = "0.2.0"

func makeUpgrade(t *testing.T, b *build) *build {
	t.Helper()
	dir := t.TempDir()
	source := cloneSource(t, b, dir)
	config := filepath.Join(source, ".goreleaser.yaml")
	others := regexp.MustCompile(`(?m)^ +- (linux|darwin|windows)_\w+\n`)
	content := others.ReplaceAllStringFunc(string(readFile(t, config)), func(target string) string {
		if strings.HasPrefix(strings.TrimSpace(target), "- "+runtime.GOOS+"_"+runtime.GOARCH) {
			return target
		}
		return ""
	})
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := git(source, "commit", "--quiet", "--all", "--message=Upgrade"); err != nil {
		t.Fatal(err)
	}
	upgrade, err := makeRelease(source, upgradeVersion, filepath.Join(dir, "dist"))
	if err != nil {
		t.Fatal(err)
	}
	return upgrade
}

// An index and a download server of the test's own stand in for those that krew
// uses by default: everything else is as on a user's machine.
func TestKrewInstallsUpgradesAndUninstalls(t *testing.T) {
	requireKubectl(t)
	b := theRelease(t)
	if p := (platform{runtime.GOOS, runtime.GOARCH}); p.os != "linux" {
		t.Skipf("the K3s test server does not run on %s", p)
	}
	upgrade := makeUpgrade(t, b)
	downloads := http.NewServeMux()
	downloads.Handle("/v"+version+"/", http.StripPrefix("/v"+version+"/", http.FileServer(http.Dir(b.dist))))
	downloads.Handle("/v"+upgradeVersion+"/", http.StripPrefix("/v"+upgradeVersion+"/", http.FileServer(http.Dir(upgrade.dist))))
	server := httptest.NewServer(downloads)
	defer server.Close()
	index := filepath.Join(t.TempDir(), "index")
	publish := func(manifest string) {
		t.Helper()
		writeManifest(t, filepath.Join(index, "plugins"), strings.ReplaceAll(manifest,
			"https://github.com/k3s-token/kubectl-k3s-token/releases/download", server.URL))
		for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all"}, {"commit", "--quiet", "--message=Update"}} {
			if err := git(index, args...); err != nil {
				t.Fatal(err)
			}
		}
	}

	cluster, err := k3stest.Start(t.Context(), k3stest.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	k := newKrew(t)
	k.env = append(k.env, "KREW_DEFAULT_INDEX_URI=file://"+index, "KUBECONFIG="+cluster.Kubeconfig)

	manifest := renderedManifest(t, b.dist)
	publish(manifest)
	k.kubectl(t, "krew", "update")
	k.kubectl(t, "krew", "install", "k3s-token")
	if printed := k.kubectl(t, "k3s-token", "version"); !strings.Contains(printed, "v"+version) || !strings.Contains(printed, cluster.Version) {
		t.Errorf("want v%s and the server's %s:\n%s", version, cluster.Version, printed)
	}
	token := k.kubectl(t, "k3s-token", "create", "--ttl", "2h")
	parts := regexp.MustCompile(`^K10[0-9a-f]{64}::([a-z0-9]{6})\.([a-z0-9]{16})\n$`).FindStringSubmatch(token)
	if parts == nil {
		t.Fatal("create has not printed a token in secure format, and nothing else")
	}
	id, secret := parts[1], parts[2]
	listed := k.kubectl(t, "k3s-token", "list", "-o", "yaml")
	if !strings.Contains(listed, "id: "+id+"\n") || strings.Contains(listed, secret) {
		t.Errorf("want the id %s in the list, without the secret", id)
	}
	// krew puts the program alone on the PATH. A link to it under this name
	// completes, and follows each upgrade.
	if err := os.Symlink(filepath.Join(k.root, "bin", binary), filepath.Join(k.root, "bin", shim)); err != nil {
		t.Fatal(err)
	}
	if offers := k.kubectl(t, "__complete", "k3s-token", "delete", ""); !strings.Contains(offers, id) {
		t.Errorf("want the id %s among what TAB offers:\n%s", id, offers)
	}

	archive := platform{runtime.GOOS, runtime.GOARCH}.archive
	publish(strings.NewReplacer(version, upgradeVersion, checksums(t, b.dist)[archive(version)], checksums(t, upgrade.dist)[archive(upgradeVersion)]).Replace(manifest))
	k.kubectl(t, "krew", "update")
	k.kubectl(t, "krew", "upgrade", "k3s-token")
	if printed := k.kubectl(t, "k3s-token", "version", "--client"); !strings.Contains(printed, "v"+upgradeVersion) {
		t.Errorf("want v%s after the upgrade:\n%s", upgradeVersion, printed)
	}
	if listed := k.kubectl(t, "k3s-token", "list", "-o", "name"); listed != "secret/bootstrap-token-"+id+"\n" {
		t.Errorf("want the token of before the upgrade, got %q", listed)
	}

	k.kubectl(t, "krew", "uninstall", "k3s-token")
	if printed, err := k.try(t, "k3s-token", "version", "--client"); err == nil {
		t.Errorf("the plugin still runs after it was uninstalled:\n%s", printed)
	}
}
