package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// exampleID is the token that help texts and documents speak of.
const exampleID = "abcdef"

// TestExamples runs each example of each command's help, as it is written, on a
// server with the token, the files and the folders that the examples name.
func TestExamples(t *testing.T) {
	root := cmd.NewCommand(&cmd.Env{IOStreams: genericiooptions.NewTestIOStreamsDiscard()})
	for _, command := range append(root.Commands(), root) {
		if command.Hidden || command.Name() == "options" {
			continue
		}
		t.Run(command.Name(), func(t *testing.T) {
			if command.Example == "" {
				t.Fatal("the command has no example")
			}
			for _, example := range strings.Split(outdent(command.Example), "\n\n") {
				comment, _, _ := strings.Cut(example, "\n")
				t.Run(strings.TrimPrefix(comment, "# "), func(t *testing.T) {
					shell := newExampleShell(t)
					if err := deleteBootstrapTokens(shell.server); err != nil {
						t.Fatal(err)
					}
					shell.run(t, example)
				})
			}
		})
	}
}

func outdent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// exampleShell runs shell commands that stand in a help text or a document.
type exampleShell struct {
	server  *k3stest.Server
	bash    string
	dir     string
	env     []string
	kubectl bool // the machine has one
}

// newExampleShell returns a shell in a folder that looks like the repository
// and has the files that examples read.
func newExampleShell(t *testing.T) *exampleShell {
	t.Helper()
	requireBuilt(t, "k3s")
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("the examples are for bash, and this machine has none")
	}
	server, err := shared.server(k3stest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	s := &exampleShell{server: server, bash: bash, dir: t.TempDir()}
	path := filepath.Dir(binary) + string(os.PathListSeparator) + os.Getenv("PATH")
	if _, err := exec.LookPath("kubectl"); err == nil {
		s.kubectl = true
	} else {
		path = s.standIn(t) + string(os.PathListSeparator) + path
	}

	home := filepath.Join(s.dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".local", "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"kubeconfig":    server.Kubeconfig,
		"server-ca.crt": server.CAFile,
		"node-token":    filepath.Join(server.DataDir, "server", "token"),
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docs := filepath.Join(filepath.Dir(filepath.Dir(binary)), "docs")
	if err := os.Symlink(docs, filepath.Join(s.dir, "docs")); err != nil {
		t.Fatal(err)
	}
	s.env = []string{
		"PATH=" + path,
		"HOME=" + home,
		"TMPDIR=" + os.TempDir(),
		"KUBECONFIG=" + filepath.Join(s.dir, "kubeconfig"),
	}
	return s
}

// standIn takes kubectl's place where there is none: it knows the plugin only.
func (s *exampleShell) standIn(t *testing.T) string {
	t.Helper()
	const script = "#!/bin/sh\n[ \"$1\" = k3s-token ] || exit 127\nshift\nexec kubectl-k3s_token \"$@\"\n"
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return folder
}

var kubectlCommand = regexp.MustCompile(`\bkubectl ([a-z0-9-]+)`)

// run runs commands as they are written, and fails the test where one fails.
func (s *exampleShell) run(t *testing.T, commands string) {
	t.Helper()
	for _, match := range kubectlCommand.FindAllStringSubmatch(commands, -1) {
		if !s.kubectl && match[1] != "k3s-token" {
			t.Skipf("it needs a kubectl for %q", match[0])
		}
	}
	if err := s.createExampleToken(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, s.bash, "-euo", "pipefail", "-c", commands)
	command.Dir, command.Env = s.dir, s.env
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatal(redact([]any{fmt.Sprintf("%v\n%s\n---\n%s", err, commands, output)})...)
	}
}

// createExampleToken makes the token that examples name, unless it is there.
func (s *exampleShell) createExampleToken() error {
	secret, err := json.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata":   map[string]any{"name": secretPrefix + exampleID},
		"type":       "bootstrap.kubernetes.io/token",
		"stringData": map[string]any{
			"token-id":                       exampleID,
			"token-secret":                   "0123456789abcdef",
			"description":                    "rack 7",
			"usage-bootstrap-authentication": "true",
		},
	})
	if err != nil {
		return err
	}
	path := secretsPath + "/" + secretPrefix + exampleID
	_, err = call(s.server, http.MethodPatch, path+"?fieldManager=e2e&force=true", "application/apply-patch+yaml", secret)
	return err
}
