package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/creack/pty"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// exampleServers are the servers in help texts and documents; the test server
// takes their place, which is all that is changed in the texts.
var exampleServers = regexp.MustCompile(`https://(k3s\.example\.com|10\.0\.0\.\d+):6443|https://rke2\.example\.com:9345`)

// TestExamples runs each example of each command's help on a server with the
// token, the files and the folders that the examples name.
func TestExamples(t *testing.T) {
	t.Parallel()
	verbs := regexp.MustCompile(`(?m)^  ([a-z]+) {2,}`)
	help, err := exec.CommandContext(t.Context(), plugin, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{""}
	for _, match := range verbs.FindAllStringSubmatch(string(help), -1) {
		names = append(names, match[1])
	}
	if len(names) < 10 {
		t.Fatalf("the help names the commands %v only", names)
	}
	for _, name := range names {
		t.Run("help "+name, func(t *testing.T) {
			examples := examplesOf(t, name)
			if len(examples) == 0 {
				t.Fatal("the command has no example")
			}
			if name == "rotate" {
				t.Parallel()
				runExamples(t, startOwn(t, k3stest.Options{Token: firstPassword}), examples)
				return
			}
			runExamples(t, borrowServer(t), examples)
		})
	}
}

// examplesOf are the examples in a command's help.
func examplesOf(t *testing.T, name string) []string {
	t.Helper()
	args := []string{"--help"}
	if name != "" {
		args = []string{name, "--help"}
	}
	help, err := exec.CommandContext(t.Context(), plugin, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(help), "Examples:\n")
	if !found {
		return nil
	}
	var examples []string
	for _, paragraph := range regexp.MustCompile(`\n\s*\n`).Split(rest, -1) {
		if !strings.HasPrefix(strings.TrimSpace(paragraph), "#") {
			break // the next section
		}
		examples = append(examples, paragraph)
	}
	return examples
}

// runExamples runs examples one after the other, each in a folder of its own. A
// rotation is finished before the next example.
func runExamples(t *testing.T, server *k3stest.Server, examples []string) {
	lendNode(t, server)
	before, now := serverToken(t, server), serverToken(t, server)
	for _, example := range examples {
		comment, _, _ := strings.Cut(strings.TrimSpace(example), "\n")
		t.Run(strings.TrimPrefix(comment, "# "), func(t *testing.T) {
			if after := serverToken(t, server); after != now {
				before, now = now, after
				restartWith(t, server, passwordOf(t, now))
				_ = server.Core.ConfigMaps(metav1.NamespaceSystem).Delete(t.Context(), recordName, metav1.DeleteOptions{})
			}
			shell := newExampleShell(t, server)
			if strings.Contains(example, "--old-token-file node-token") {
				writeFile(t, shell.dir, "node-token", before+"\n")
				writeFile(t, shell.dir, "new-token", now+"\n")
			}
			if strings.Contains(example, "< tokens.txt") {
				writeFile(t, shell.dir, "tokens.txt", "abcdef.0123456789abcdef\n")
			}
			shell.run(t, example)
		})
	}
}

// TestDocuments runs the commands that README.md and the pages of docs tell their
// reader to type: the blocks of code that are marked "sh", one after the other,
// in one folder for each document. Blocks marked otherwise ("console", "text")
// are not run: they need another machine, or show output.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for name, text := range documents(t, "README.md", "docs/*.md", "docs/tasks/*.md") {
		blocks := codeBlocks(text)
		if len(blocks) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var server *k3stest.Server
			if strings.HasSuffix(name, "rke2.md") {
				t.Parallel()
				server = startOwn(t, k3stest.Options{Program: "rke2"})
			} else {
				server = borrowServer(t)
			}
			lendNode(t, server)
			shell := newExampleShell(t, server)
			t.Cleanup(func() { deleteExampleObjects(t, server) })
			for i, block := range blocks {
				t.Run(fmt.Sprintf("block %d", i+1), func(t *testing.T) { shell.run(t, block) })
			}
		})
	}
}

// TestLibraryProgram runs the program in docs/library.md as it is written there.
func TestLibraryProgram(t *testing.T) {
	server := borrowServer(t)
	_, program, _ := strings.Cut(documents(t, "docs/library.md")["docs/library.md"], "```go\n")
	program, _, _ = strings.Cut(program, "\n```")
	file := writeFile(t, t.TempDir(), "main.go", program)
	cmd := exec.CommandContext(t.Context(), "go", "run", "-tags", "kustomize_disable_go_plugin_support", file)
	cmd.Dir = "../.." // whose module has the packages
	cmd.Env = append(os.Environ(), "KUBECONFIG="+server.Kubeconfig)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil || !regexp.MustCompile(`^K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}\n$`).Match(out) {
		t.Errorf("the program ended with %v and printed %d bytes, want a token in secure format", err, len(out))
	}
}

// codeBlocks are the fenced blocks of a Markdown text that are marked "sh".
func codeBlocks(markdown string) []string {
	var blocks []string
	inside, mark := false, ""
	for line := range strings.Lines(markdown) {
		rest, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence:
			if inside, mark = !inside, rest; inside && mark == "sh" {
				blocks = append(blocks, "")
			}
		case inside && mark == "sh":
			blocks[len(blocks)-1] += line
		}
	}
	return blocks
}

// TestDocumentLinks checks that the files and headings that documents link to
// are there.
func TestDocumentLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?\)|(?:src|href|srcset)="([^"#]+)"`)
	root, err := k3stest.Root()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range documents(t, "*.md", "docs/*.md", "docs/*/*.md") {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			target, anchor := match[1]+match[3], match[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path := filepath.Join(root, name)
			if target != "" {
				path = filepath.Join(filepath.Dir(path), target)
			}
			content, err := os.ReadFile(path)
			if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
				continue
			}
			if err != nil || anchor != "" && !slices.Contains(anchors(string(content)), anchor) {
				t.Errorf("%s links to %s#%s, which is not there", name, target, anchor)
			}
		}
	}
}

// anchors are the names under which the headings of a document can be linked to.
func anchors(markdown string) []string {
	var names []string
	for _, match := range regexp.MustCompile("(?m)^#+ (.+)$").FindAllStringSubmatch(markdown, -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1]))
	}
	return names
}

// documents are the texts of the repository's files that match one of the
// patterns, by their names.
func documents(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	root, err := k3stest.Root()
	if err != nil {
		t.Fatal(err)
	}
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

var lentNodes atomic.Int64

// lendNode gives the cluster a node for the server, until the test ends.
func lendNode(t *testing.T, server *k3stest.Server) {
	t.Helper()
	name := fmt.Sprintf("example-%d", lentNodes.Add(1)) // one of that name may not be gone yet
	addNode(t, server, name, "127.0.0.1")
	t.Cleanup(func() {
		if err := server.Core.Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// exampleShell runs shell commands of a help text or a document, in a folder
// that looks like the repository and has the files that examples read.
type exampleShell struct {
	server *k3stest.Server
	dir    string
	path   string
}

func newExampleShell(t *testing.T, server *k3stest.Server) *exampleShell {
	t.Helper()
	for _, program := range []string{"bash", "kubectl"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "%v", err)
		}
	}
	deleteTokens(t, server)
	s := &exampleShell{server: server, dir: t.TempDir()}
	s.path = filepath.Dir(plugin) + string(os.PathListSeparator) + os.Getenv("PATH")
	if err := os.MkdirAll(filepath.Join(s.dir, "home", ".local", "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"kubeconfig": server.Kubeconfig, "server-ca.crt": server.CAFile, "node-token": filepath.Join(server.DataDir, "server", "token"),
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, s.dir, name, string(content))
	}
	if err := os.Symlink(filepath.Join(filepath.Dir(filepath.Dir(plugin)), "docs"), filepath.Join(s.dir, "docs")); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs commands on a terminal, as their reader would, and fails the test if
// one fails. Every question gets a yes. The token that they name is there.
func (s *exampleShell) run(t *testing.T, commands string) {
	t.Helper()
	if _, err := secrets(s.server).Get(t.Context(), secretPrefix+"abcdef", metav1.GetOptions{}); err != nil {
		mustRun(t, s.server, "create", "abcdef.0123456789abcdef", "--description", "rack 7", "--labels", "rack=7")
	}
	r := newRun(t, filepath.Join(s.dir, "kubeconfig"))
	commands = strings.ReplaceAll(commands, " --watch", "") // which does not end
	commands = exampleServers.ReplaceAllLiteralString(commands, s.server.SupervisorURL)
	r.Path, r.Args, r.Dir = "/bin/bash", []string{"bash", "-euo", "pipefail", "-c", commands}, s.dir
	r.Env = append(r.Env, "PATH="+s.path, "HOME="+filepath.Join(s.dir, "home"))
	r.Stdout, r.Stderr = nil, nil
	terminal, err := pty.StartWithSize(r.Cmd, &pty.Winsize{Rows: 40, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if _, err := io.WriteString(terminal, "y\n"); err != nil {
		t.Fatal(err)
	}
	// The read ends with an error when the command has closed the terminal.
	output, _ := io.ReadAll(terminal)
	if err := r.Wait(); err != nil {
		t.Fatal(redact(fmt.Sprintf("%v\n%s\n---\n%s", err, commands, output)))
	}
}

// deleteExampleObjects takes away the Roles of docs/rbac.yaml, and the objects
// that README.md and docs/tasks/ci.md make with them.
func deleteExampleObjects(t *testing.T, server *k3stest.Server) {
	t.Helper()
	paths := []string{
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/k3s-token-creator",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/k3s-token-creator-undo",
		"/api/v1/namespaces/default/serviceaccounts/provisioner",
	}
	for _, role := range documentsOf(documents(t, "docs/rbac.yaml")["docs/rbac.yaml"]) {
		path, err := objectPath(role)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		if err := server.Core.RESTClient().Delete().AbsPath(path).Do(context.Background()).Error(); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	}
}
