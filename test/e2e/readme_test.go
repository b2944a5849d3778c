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
	"slices"
	"strings"
	"testing"
	"unicode"

	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// TestDocuments runs what README.md and the pages of docs tell their reader to
// type: the blocks of code that are marked "sh", one after the other, in one
// folder for each document. Blocks marked otherwise ("console", "text") are not
// run: they need another machine, or show what is printed. The page on RKE2 has
// a server of that name.
func TestDocuments(t *testing.T) {
	for _, document := range documents(t, "README.md", "docs/*.md", "docs/tasks/*.md") {
		blocks := codeBlocks(document.text, "sh")
		if len(blocks) == 0 {
			continue
		}
		t.Run(document.name, func(t *testing.T) {
			program := "k3s"
			if strings.HasSuffix(document.name, "rke2.md") {
				program = "rke2"
			}
			server := borrowServer(t, program)
			// A node takes a moment to be gone, so each document has one of its own.
			node, _, _ := strings.Cut(filepath.Base(document.name), ".")
			lendNode(t, server, "document-"+strings.ToLower(node))
			shell := newExampleShell(t, server)
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
	for _, document := range documents(t, "*.md", "docs/*.md", "docs/tasks/*.md") {
		for _, block := range codeBlocks(document.text, "sh") {
			if strings.HasPrefix(block.text, "$ ") {
				t.Errorf("%s:%d: a block marked sh has a prompt: mark it console", document.name, block.line)
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?\)|(?:src|href|srcset)="([^"#]+)"`)
	heading = regexp.MustCompile("(?m)^#+ (.+)$")
)

// TestDocumentLinks checks that the files and headings that documents link to
// are there.
func TestDocumentLinks(t *testing.T) {
	for _, document := range documents(t, "*.md", "docs/*.md", "docs/*/*.md") {
		for _, match := range link.FindAllStringSubmatch(document.text, -1) {
			target := match[1] + match[3]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path := document.path
			if target != "" {
				path = filepath.Join(filepath.Dir(document.path), filepath.FromSlash(target))
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s links to %s, which is not there", document.name, target)
					continue
				}
			}
			if match[2] == "" {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(anchors(string(content)), match[2]) {
				t.Errorf("%s links to %s#%s, which has no such heading", document.name, target, match[2])
			}
		}
	}
}

// anchors are the names under which the headings of a document can be linked to.
func anchors(markdown string) []string {
	var names []string
	for _, match := range heading.FindAllStringSubmatch(markdown, -1) {
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
// cluster: the Roles of docs/rbac.yaml, and what README.md and docs/tasks/ci.md do with them.
func deleteExampleObjects(t *testing.T, server *k3stest.Server) {
	t.Helper()
	paths := []string{
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/k3s-token-creator",
		"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings/k3s-token-creator-undo",
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
