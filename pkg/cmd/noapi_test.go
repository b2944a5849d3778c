package cmd_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

// TestWhatIsNoAPIIsAnError has something in between answer everything with
// success, as a proxy does that wants its user to log in.
func TestWhatIsNoAPIIsAnError(t *testing.T) {
	for _, answer := range []string{`{"error":"login required"}`, `{"kind":"Login","apiVersion":"v1","metadata":{"name":"x"}}`, `[]`, `{}`} {
		for _, args := range [][]string{
			{"list"}, {"list", "-o", "json"},
			{"create", given}, {"create", given, "--token-format", "short"}, {"create", "--count", "3", "--token-format", "short"},
			{"delete", "abcdef"}, {"delete", "--all", "--yes"}, {"delete", "--expired"}, {"extend", "abcdef", "--ttl", "1h"}, {"version"},
		} {
			c := newCluster(t)
			c.Handle(func(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, answer)
				return true
			})
			got := c.run(t, args...)
			if got.code != 1 || got.stderr == "" || args[0] != "version" && got.out != "" {
				t.Errorf("%s to %v: exit code %d, stdout %q, stderr %q", answer, args, got.code, mask(got.out), got.stderr)
			}
		}
	}
}
