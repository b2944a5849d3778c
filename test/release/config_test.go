package release

import (
	goversion "go/version"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// manifest is what the tests read of a krew manifest.
type manifest struct {
	Metadata struct{ Name string }
	Spec     struct {
		Version   string
		Platforms []manifestPlatform
	}
}

type manifestPlatform struct {
	Selector struct{ MatchLabels map[string]string }
	URI      string
	Sha256   string
	Bin      string
}

func parseManifest(t *testing.T, content []byte) manifest {
	t.Helper()
	var m manifest
	if err := yaml.Unmarshal(content, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// checkManifest compares a manifest with the platforms, file by file.
func checkManifest(t *testing.T, m manifest, version string) {
	t.Helper()
	if m.Spec.Version != "v"+version {
		t.Errorf("the manifest is of %s, want v%s", m.Spec.Version, version)
	}
	var found []platform
	for _, entry := range m.Spec.Platforms {
		p := platform{entry.Selector.MatchLabels["os"], entry.Selector.MatchLabels["arch"]}
		found = append(found, p)
		want := "https://github.com/k3s-token/kubectl-k3s-token/releases/download/v" + version + "/" + p.archive(version)
		if entry.URI != want {
			t.Errorf("%s is downloaded from %s, want %s", p, entry.URI, want)
		}
		if entry.Bin != p.binary() {
			t.Errorf("%s runs %s, want %s", p, entry.Bin, p.binary())
		}
	}
	if got, want := sortedStrings(found), sortedStrings(platforms); !slices.Equal(got, want) {
		t.Errorf("the manifest has %v, want %v", got, want)
	}
}

func TestKrewTemplateHasThePlatforms(t *testing.T) {
	checkManifest(t, parseManifest(t, readFile(t, filepath.Join(root(t), "plugins", "krew.yaml"))), "0.0.0")
}

func TestGoreleaserBuildsThePlatforms(t *testing.T) {
	var config struct{ Builds []struct{ Targets []string } }
	if err := yaml.Unmarshal(readFile(t, filepath.Join(root(t), ".goreleaser.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, build := range config.Builds {
		got = append(got, build.Targets...)
	}
	for _, p := range platforms {
		target := p.os + "_" + p.arch
		if p.arch == "arm" {
			target += "_6"
		}
		want = append(want, target)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf(".goreleaser.yaml builds %v, want %v", got, want)
	}
}

// goreleaser ignores --release-notes where its own changelog is disabled.
func TestGoreleaserTakesTheReleaseNotes(t *testing.T) {
	var config struct{ Changelog struct{ Disable any } }
	if err := yaml.Unmarshal(readFile(t, filepath.Join(root(t), ".goreleaser.yaml")), &config); err != nil {
		t.Fatal(err)
	}
	if config.Changelog.Disable != nil {
		t.Error(".goreleaser.yaml disables the changelog")
	}
}

// Each module is built with the Go version that the workflows read from go.mod.
func TestOneGoVersionBuildsAllModules(t *testing.T) {
	toolchain := regexp.MustCompile(`(?m)^toolchain go(.*)$`).FindSubmatch(readFile(t, filepath.Join(root(t), "go.mod")))
	if toolchain == nil {
		t.Fatal("go.mod names no toolchain")
	}
	modules, err := filepath.Glob(filepath.Join(root(t), "hack", "*", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range append(modules, filepath.Join(root(t), "hack", "tools", "release", "go.mod")) {
		needs := regexp.MustCompile(`(?m)^go (.*)$`).FindSubmatch(readFile(t, module))
		if needs == nil || goversion.Compare("go"+string(needs[1]), "go"+string(toolchain[1])) > 0 {
			t.Errorf("%s needs Go %s, and go.mod has %s", module, needs, toolchain[1])
		}
	}
}

// The Makefile vets each of them.
func TestMakefileHasThePlatforms(t *testing.T) {
	line := regexp.MustCompile(`(?m)^PLATFORMS := (.*)$`).FindSubmatch(readFile(t, filepath.Join(root(t), "Makefile")))
	if line == nil {
		t.Fatal("the Makefile has no PLATFORMS")
	}
	got := strings.Fields(string(line[1]))
	slices.Sort(got)
	if want := sortedStrings(platforms); !slices.Equal(got, want) {
		t.Errorf("the Makefile has %v, want %v", got, want)
	}
}

func TestReleaseNotes(t *testing.T) {
	dir := t.TempDir()
	notes := filepath.Join(dir, "release")
	mustOutput(t, os.Environ(), "go", "build", "-o", notes, "./hack/release")
	changelog := `# Changelog

## [Unreleased]

- Not yet.

## [0.2.0] - 2026-03-01

### Added

- Roles: [docs/rbac.yaml](docs/rbac.yaml), see [the site](https://example.com/a) and [this](#here).

## [0.1.0] - 2026-02-01

- First.

[Unreleased]: https://example.com/unreleased
`
	if err := os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte(changelog), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ tag, want, err string }{
		{tag: "v0.2.0", want: "### Added\n\n- Roles: [docs/rbac.yaml](https://github.com/k3s-token/kubectl-k3s-token/blob/v0.2.0/docs/rbac.yaml), " +
			"see [the site](https://example.com/a) and [this](#here).\n"},
		{tag: "v0.1.0", want: "- First.\n"},
		{tag: "v0.3.0-rc.1", want: "- Not yet.\n"},
		{tag: "v0.3.0", err: `add a section that starts with "## [0.3.0]"`},
		{tag: "0.2.0", err: "it starts with v"},
	} {
		t.Run(c.tag, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), notes, "notes", c.tag)
			command.Dir = dir
			got, err := output(command)
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Fatalf("got %v, want an error with %q", err, c.err)
			case got != c.want:
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
