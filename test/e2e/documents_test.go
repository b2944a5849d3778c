package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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
			server := serverFor(t, name)
			dir := readersFolder(t, server)
			for i, block := range blocks {
				for j, commands := range nextExample.Split(block[1], -1) {
					t.Run(fmt.Sprintf("%d.%d", i+1, j+1), func(t *testing.T) { runAsReader(t, server, dir, commands) })
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
	return plain.borrow(t)
}

// readersFolder is the folder of a user who follows a document. It looks like the
// repository, and has the files that documents read.
func readersFolder(t *testing.T, server *k3stest.Server) string {
	t.Helper()
	dir := t.TempDir()
	kubeconfig, err := os.ReadFile(server.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "kubeconfig", string(kubeconfig))
	writeFile(t, dir, "node-token", serverToken(t, server)+"\n")
	for name, target := range map[string]string{"server-ca.crt": server.CAFile, "docs": filepath.Join(root, "docs")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, ".local", "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	addNode(t, server, "example-"+strings.ToLower(rand.Text()), "127.0.0.1")
	return dir
}

// runAsReader runs commands, and fails the test if one fails. The token that they name
// is there. A server whose token they have replaced is restarted.
func runAsReader(t *testing.T, server *k3stest.Server, dir, commands string) {
	t.Helper()
	const id = "abcdef"
	if _, found := storedTokens(t, server)[id]; !found {
		mustRun(t, server, "create", id+".0123456789abcdef", "--description", "rack 7", "--labels", "rack=7")
	}
	if strings.Contains(commands, "< tokens.txt") {
		writeFile(t, dir, "tokens.txt", id+"\n")
	}
	commands = forever.ReplaceAllString(exampleServers.ReplaceAllLiteralString(commands, server.SupervisorURL), "")
	shell := newRun(t, filepath.Join(dir, "kubeconfig"))
	shell.Path, shell.Args, shell.Dir = "/bin/bash", []string{"bash", "-euo", "pipefail", "-c", commands}, dir
	shell.Env = append(shell.Env, "PATH="+filepath.Dir(plugin)+":"+os.Getenv("PATH"), "HOME="+dir)
	before := serverToken(t, server)
	shell.begin().wants(0)
	if after := serverToken(t, server); after != before {
		restartWith(t, server, after)
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
		r := newRun(t, plain.borrow(t).Kubeconfig)
		r.Path = filepath.Join(dir, "library")
		r.begin().wants(0, "K10")
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
			path, anchor := filepath.Join(root, name), match[2]
			if file := match[1] + match[3]; file != "" {
				path = filepath.Join(filepath.Dir(path), file)
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
