package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// shellBlock is a block of commands: one that is marked "sh", or the examples on the
// page of a command. (hack/verify-docs.sh compares these with its help.) Blocks with
// other marks need another machine, or show output.
var shellBlock = regexp.MustCompile("(?s)(?:```sh|### Examples\n\n```)\n(.*?)\n\\s*```")

// nextExample is between two examples of a block.
var nextExample = regexp.MustCompile(`\n\n# .*\n`)

// exampleServers are the servers in documents, whose place the test server takes.
var exampleServers = regexp.MustCompile(`https://(k3s\.example\.com|10\.0\.0\.\d+):6443|https://rke2\.example\.com:9345`)

// forever are flags of commands that go on until a node comes or the user ends them,
// and those that need such a flag.
var forever = regexp.MustCompile(` --(watch|wait|delete-after-join)\b(=\S+)?`)

// TestDocuments runs the commands that documents tell their reader to type, those
// of a document one after the other in one folder.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t, "README.md", "docs/*.md", "docs/*/*.md") {
		blocks := shellBlock.FindAllStringSubmatch(text, -1)
		if len(blocks) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			reader := newReader(t, serverFor(t, name))
			for i, block := range blocks {
				for j, commands := range nextExample.Split(block[1], -1) {
					t.Run(fmt.Sprintf("%d.%d", i+1, j+1), func(t *testing.T) { reader.run(t, commands) })
				}
			}
		})
	}
}

// serverFor is the server for the commands of a document.
func serverFor(t *testing.T, document string) *k3stest.Server {
	t.Helper()
	switch filepath.Base(document) {
	case "rke2.md":
		return rke2.borrow(t)
	case "rotate.md":
		t.Parallel()
		return startOwn(t, k3stest.Options{Token: firstPassword})
	}
	return borrowServer(t)
}

// reader is a user who follows a document, in a folder that looks like the
// repository and has the files that documents read.
type reader struct {
	server *k3stest.Server
	dir    string
	token  string // the server's
}

func newReader(t *testing.T, server *k3stest.Server) *reader {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		missing(t, "%v", err)
	}
	r := &reader{server, t.TempDir(), serverToken(t, server)}
	kubeconfig, err := os.ReadFile(server.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, r.dir, "kubeconfig", string(kubeconfig))
	writeFile(t, r.dir, "node-token", r.token+"\n")
	for name, target := range map[string]string{"server-ca.crt": server.CAFile, "docs": filepath.Join(root, "docs")} {
		if err := os.Symlink(target, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(r.dir, ".local", "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	node := "example-" + strings.ToLower(rand.Text()) // one of a fixed name may not be gone yet
	addNode(t, server, node, "127.0.0.1")
	t.Cleanup(func() {
		if err := server.Core.Nodes().Delete(context.Background(), node, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return r
}

// run runs commands, and fails the test if one fails. The token that they name is
// there. A server whose token they have replaced is restarted.
func (r *reader) run(t *testing.T, commands string) {
	t.Helper()
	const id = "abcdef"
	if _, found := storedTokens(t, r.server)[id]; !found {
		mustRun(t, r.server, "create", id+".0123456789abcdef", "--description", "rack 7", "--labels", "rack=7")
	}
	if strings.Contains(commands, "< tokens.txt") {
		writeFile(t, r.dir, "tokens.txt", id+"\n")
	}
	commands = forever.ReplaceAllString(exampleServers.ReplaceAllLiteralString(commands, r.server.SupervisorURL), "")
	shell := newRun(t, filepath.Join(r.dir, "kubeconfig"))
	shell.Path, shell.Args, shell.Dir = "/bin/bash", []string{"bash", "-euo", "pipefail", "-c", commands}, r.dir
	shell.Env = append(shell.Env, "PATH="+filepath.Dir(plugin)+":"+os.Getenv("PATH"), "HOME="+r.dir)
	if got := shell.begin().end(); got.exitCode != 0 {
		t.Fatal(redact(fmt.Sprintf("exit code %d\n%s\n---\n%s%s", got.exitCode, commands, got.stdout, got.stderr)))
	}
	if token := serverToken(t, r.server); token != r.token {
		r.token = token
		restartWith(t, r.server, passwordOf(t, token))
	}
}

// TestLibraryProgram runs the program in docs/library.md as it is written there.
func TestLibraryProgram(t *testing.T) {
	t.Parallel()
	_, program, _ := strings.Cut(documents(t, "docs/library.md")["docs/library.md"], "```go\n")
	program, _, _ = strings.Cut(program, "\n```")
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "kustomize_disable_go_plugin_support",
		"-o", dir, writeFile(t, dir, "library.go", program))
	build.Dir = root // whose module has the packages
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("run", func(t *testing.T) {
		r := newRun(t, borrowServer(t).Kubeconfig)
		r.Path = filepath.Join(dir, "library")
		got := r.begin().end()
		if got.exitCode != 0 || !regexp.MustCompile(`^K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}\n$`).MatchString(got.stdout) {
			t.Errorf("exit code %d, %d bytes on stdout, want a token in secure format: %s", got.exitCode, len(got.stdout), got.stderr)
		}
	})
}

// TestDocumentLinks checks that the files and headings that documents link to
// are there.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)\s]+))?\)|(?:src|href)="([^"#:]+)"`)
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	noAnchor := regexp.MustCompile(`[^\pL\pN _-]`)
	for name, text := range documents(t, "*.md", "docs/*.md", "docs/*/*.md") {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			path, anchor := filepath.Join(root, filepath.Dir(name), match[1]+match[3]), match[2]
			if match[1]+match[3] == "" {
				path = filepath.Join(root, name)
			}
			_, err := os.Stat(path)
			content, _ := os.ReadFile(path) // or a folder
			found := slices.ContainsFunc(heading.FindAllStringSubmatch(string(content), -1), func(h []string) bool {
				return strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == anchor
			})
			if err != nil || anchor != "" && !found {
				t.Errorf("%s has the link %s, which leads nowhere", name, match[0])
			}
		}
	}
}

// documents are the texts of the repository's files that match one of the
// patterns, by their names.
func documents(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found[strings.TrimPrefix(path, root+"/")] = string(text)
		}
	}
	return found
}
