package docs

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
)

type full struct{}

func (full) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, syscall.ENOSPC
}

// TestErrorsPageHasWhatWrongCommandLinesPrint holds docs/errors.md to what is
// printed, in whoever's words: those of libraries do not stand in the source.
func TestErrorsPageHasWhatWrongCommandLinesPrint(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	var known []*regexp.Regexp
	for _, span := range codeSpan.FindAllStringSubmatch(strings.ReplaceAll(string(content), `\|`, "|"), -1) {
		if letters.FindString(span[1]) == "" {
			continue // it says nothing by itself
		}
		pattern := strings.ReplaceAll(regexp.QuoteMeta(span[1]), "…", ".*")
		known = append(known, regexp.MustCompile("^(?:.*: )?"+pattern+"$"))
	}
	dir := t.TempDir()
	for _, args := range []string{
		"list --nope", "list -K", "create --ttl", "generate --count x", "create --count 99999999999999999999", "list -v x", "version --client=maybe",
		"extend abcdef", "create --ttl 1h --expires-at 2030-01-01T00:00:00Z", "create --dry-run=x", "create --parallel 0", "nope", "list extra",
		"list --context nope", "list --cluster nope", "list --user nope", "list --kubeconfig page.md", "list --kubeconfig missing",
		"list --request-timeout=abc", "list --as-uid 7", "list --certificate-authority missing", "list --proxy-url a:b:c", "list --as-user-extra x",
		"list --insecure-skip-tls-verify --certificate-authority page.md -s https://localhost:1", "list --client-certificate missing -s https://localhost:1",
		"list", "list -s https://localhost:99999", "generate",
		"list -o nope", "list -o jsonpath={", "list --sort-by x", "list --chunk-size=-1", "create --ttl=-1h", "create --ttl 5", "create --expires-at soon",
		"create --groups x", "create --usages x", "create --token-format x", "create --ca-file missing", "create --ca-file page.md", "create --output-file -",
		"create --count 0", "create abc", "create K10abc", "generate --type x", "inspect K10abc", "inspect --token-file missing", "inspect --token-file -",
		"delete", "delete --all abcdef", "delete nope!", "delete --all", "verify K10abc", "verify --server http://x abcdef.0123456789abcdef", "rotate",
	} {
		var stderr strings.Builder
		out := io.Discard
		if args == "generate" {
			out = full{}
		}
		t.Chdir(dir)
		if err := os.WriteFile("page.md", []byte("# A page\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("KUBECONFIG", "none")
		code := cmd.Run(t.Context(), append([]string{cmd.BinaryName}, strings.Fields(args)...), cmd.Env{
			IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: out, ErrOut: &stderr},
			Now:       time.Now,
			Random:    rand.NewChaCha8([32]byte{}),
		})
		if code != 1 {
			t.Errorf("%s: exit code %d", args, code)
		}
		for line := range strings.Lines(stderr.String()) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "error: ")
			if line != "" && !slices.ContainsFunc(known, func(r *regexp.Regexp) bool { return r.MatchString(line) }) {
				t.Errorf("%s says %s: docs/errors.md does not explain it", args, fmt.Sprintf("%q", line))
			}
		}
	}
}

// letters is what a message has at least, besides what is different each time.
var letters = regexp.MustCompile(`[A-Za-z-]{3,}(?:.*[A-Za-z-]{3,})`)
