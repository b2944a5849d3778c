package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// TestDocuments runs what README.md and docs/*.md tell their reader to type:
// the blocks of code that are marked "sh", one after the other, in one folder
// for each document. Blocks marked otherwise ("console", "text") are not run:
// they need another machine, or show what is printed.
func TestDocuments(t *testing.T) {
	server := exampleCluster(t, k3stest.Options{}, "documents")
	for _, document := range documents(t, "README.md", "docs/*.md") {
		blocks := codeBlocks(document.text, "sh")
		if len(blocks) == 0 {
			continue
		}
		t.Run(document.name, func(t *testing.T) {
			shell := newExampleShell(t, server)
			if err := deleteBootstrapTokens(server); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { deleteExampleObjects(t, server) })
			for _, block := range blocks {
				t.Run(fmt.Sprintf("line %d", block.line), func(t *testing.T) { shell.run(t, block.text) })
			}
		})
	}
}

// TestDocumentsShowNoPrompt keeps blocks that are run from being written as
// ones that are not.
func TestDocumentsShowNoPrompt(t *testing.T) {
	for _, document := range documents(t, "README.md", "*.md", "docs/*.md") {
		for _, block := range codeBlocks(document.text, "sh") {
			if strings.HasPrefix(block.text, "$ ") {
				t.Errorf("%s:%d: a block marked sh has a prompt: mark it console", document.name, block.line)
			}
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)|(?:src|href|srcset)="([^"#]+)"`)

// TestDocumentLinks checks that the files that documents link to are there.
func TestDocumentLinks(t *testing.T) {
	for _, document := range documents(t, "*.md", "docs/*.md", "docs/*/*.md") {
		for _, match := range link.FindAllStringSubmatch(document.text, -1) {
			target := match[1] + match[3]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(document.path), filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s, which is not there", document.name, target)
			}
		}
	}
}

var ownMessage = regexp.MustCompile("(?m)^\\*\\*`(?:error|Warning|Hint|hint): (.+)`\\*\\*$")

// TestTroubleshootingMessages checks that the plugin still says what
// docs/troubleshooting.md explains: what stands between two dots is in the
// source. Messages of others have their speaker behind them.
func TestTroubleshootingMessages(t *testing.T) {
	var source strings.Builder
	for _, file := range documents(t, "pkg/*/*.go") {
		if !strings.HasSuffix(file.name, "_test.go") {
			source.WriteString(strings.ReplaceAll(file.text, `\"`, `"`))
		}
	}
	messages := ownMessage.FindAllStringSubmatch(documents(t, "docs/troubleshooting.md")[0].text, -1)
	if len(messages) == 0 {
		t.Fatal("no messages found")
	}
	for _, message := range messages {
		for _, part := range regexp.MustCompile("…|: ").Split(message[1], -1) {
			if part = strings.Trim(part, ` ":(),;`); len(part) > 8 && !strings.Contains(source.String(), part) {
				t.Errorf("the plugin does not say %q of %q", part, message[1])
			}
		}
	}
}

type document struct{ name, path, text string }

// documents are the files of the repository that match one of the patterns.
func documents(t *testing.T, patterns ...string) []document {
	t.Helper()
	root, err := k3stest.Root()
	if err != nil {
		t.Fatal(err)
	}
	var found []document
	seen := map[string]bool{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no document %s: %v", pattern, err)
		}
		for _, path := range paths {
			if seen[path] {
				continue
			}
			seen[path] = true
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, document{filepath.ToSlash(name), path, string(text)})
		}
	}
	return found
}

type codeBlock struct {
	line int // of its first line
	text string
}

// codeBlocks are the fenced blocks of a language in a Markdown text.
func codeBlocks(markdown, language string) []codeBlock {
	var blocks []codeBlock
	var block *codeBlock
	inside := false
	for i, line := range strings.Split(markdown, "\n") {
		mark, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && inside:
			if block != nil {
				blocks = append(blocks, *block)
			}
			block, inside = nil, false
		case fence:
			inside = true
			if mark == language {
				block = &codeBlock{line: i + 2}
			}
		case block != nil:
			block.text += line + "\n"
		}
	}
	return blocks
}

// deleteExampleObjects takes away what the documents' commands have made in the
// cluster: the Roles of docs/rbac.yaml, and what README.md does with one of them.
func deleteExampleObjects(t *testing.T, server *k3stest.Server) {
	t.Helper()
	paths := []string{
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/k3s-token-creator",
		"/api/v1/namespaces/default/serviceaccounts/provisioner",
	}
	roles := yaml.NewYAMLOrJSONDecoder(strings.NewReader(documents(t, "docs/rbac.yaml")[0].text), 4096)
	for {
		var role json.RawMessage
		if err := roles.Decode(&role); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(role) == 0 || string(role) == "null" {
			continue // nothing but comments between two separators
		}
		path, err := objectPath(role)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	for _, path := range paths {
		if _, err := call(server, http.MethodDelete, path, "", nil); err != nil && !isNotFound(err) {
			t.Error(err)
		}
	}
}
