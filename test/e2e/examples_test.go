package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// exampleID is the token that help texts and documents speak of.
const exampleID = "abcdef"

// exampleServers are the servers that they speak of; the test server takes their
// place, which is all that is changed in what is written.
var exampleServers = regexp.MustCompile(`https://(k3s\.example\.com|10\.0\.0\.\d+):6443|https://rke2\.example\.com:9345`)

// TestExamples runs each example of each command's help on a server with the
// token, the files and the folders that the examples name.
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
			var server *k3stest.Server
			if command.Name() == "rotate" {
				requireBuilt(t, "k3s")
				besideOthers(t)
				server = startOwn(t, k3stest.Options{Token: firstPassword}) // which changes
			} else {
				server = borrowServer(t, "k3s")
			}
			lendNode(t, server, "example-"+strings.ReplaceAll(command.Name(), "_", "-"))
			rotation := rotation{server: server}
			for _, example := range strings.Split(outdent(command.Example), "\n\n") {
				comment, _, _ := strings.Cut(example, "\n")
				t.Run(strings.TrimPrefix(comment, "# "), func(t *testing.T) {
					if err := deleteBootstrapTokens(server); err != nil {
						t.Fatal(err)
					}
					shell := newExampleShell(t, server)
					rotation.before(t, shell, example)
					shell.run(t, example)
					rotation.after(shell)
				})
			}
		})
	}
}

// rotation knows the server's tokens before and after a rotation. A server goes
// on with the one from before, until it is restarted with the one from after,
// which is already in its own file.
type rotation struct {
	server     *k3stest.Server
	node, next []byte
}

// before gives the example the token that the server answers to, as node-token;
// and, where it speaks of it, the one of a rotation before it, as new-token.
func (r *rotation) before(t *testing.T, shell *exampleShell, example string) {
	t.Helper()
	files := map[string]*[]byte{"node-token": &r.node}
	if r.node == nil {
		content, err := os.ReadFile(filepath.Join(shell.dir, "node-token"))
		if err != nil {
			t.Fatal(err)
		}
		r.node = content
	}
	if strings.Contains(example, "--token-file new-token") {
		files["new-token"] = &r.next
		credentials := k3stest.TokenCredentials(strings.TrimSpace(string(r.next)))
		if err := r.server.SetToken(credentials.Password); err != nil {
			t.Fatal(err)
		}
		if err := r.server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(shell.dir, name), *content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rotation) after(shell *exampleShell) {
	if content, err := os.ReadFile(filepath.Join(shell.dir, "new-token")); err == nil {
		r.next = content
	}
}

func outdent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// lendNode gives the cluster a node of that name for the server, until the test
// ends.
func lendNode(t *testing.T, server *k3stest.Server, name string) {
	t.Helper()
	addNode(t, server, name, "127.0.0.1")
	t.Cleanup(func() {
		if _, err := call(server, http.MethodDelete, "/api/v1/nodes/"+name, "", nil); err != nil {
			t.Error(err)
		}
	})
}

// exampleShell runs shell commands that stand in a help text or a document.
type exampleShell struct {
	server  *k3stest.Server
	dir     string
	env     []string
	kubectl bool // the machine has one
}

// newExampleShell returns a shell in a folder that looks like the repository
// and has the files that examples read.
func newExampleShell(t *testing.T, server *k3stest.Server) *exampleShell {
	t.Helper()
	requireTools(t, "bash")
	binary, err := plugin()
	if err != nil {
		t.Fatal(err)
	}
	s := &exampleShell{server: server, dir: t.TempDir()}
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

// run runs commands, and fails the test where one fails.
func (s *exampleShell) run(t *testing.T, commands string) {
	t.Helper()
	for _, match := range kubectlCommand.FindAllStringSubmatch(commands, -1) {
		if !s.kubectl && match[1] != "k3s-token" {
			requireTools(t, "kubectl")
		}
	}
	if err := s.createExampleToken(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	commands = exampleServers.ReplaceAllLiteralString(commands, s.server.SupervisorURL)
	command := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	command.Dir, command.Env = s.dir, s.env
	// On a terminal, as its reader would; every question gets a yes.
	screen, err := pty.StartWithSize(command, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	if _, err := io.WriteString(screen, "y\n"); err != nil {
		t.Fatal(err)
	}
	// The read ends with an error when the command has closed the terminal.
	output, _ := io.ReadAll(screen)
	if err := command.Wait(); err != nil {
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
