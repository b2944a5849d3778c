package cmd_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// cut ends a connection before the answer.
func cut() { panic(http.ErrAbortHandler) }

func TestATokenThatIsNotDeliveredIsRemovedAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args    string
		out     writer
		created func() // called when a token is in the cluster
		says    string
	}{
		"closed pipe": {args: "--count 5", out: func([]byte) error { return &fs.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE} }, says: "written out: write |1: broken pipe\n"},
		"template":    {args: "-o go-template={{if\tne\t.id\t`aaaaaa`}}{{.id.x}}{{end}}", says: "error: the token could not be written out: error executing template"},
		"lost answer": {args: given, created: cut, says: "Unable to connect to the server: EOF\nerror: 1 token perhaps created, since the answer was lost: abcdef\nhint: run later: "},
		"interrupt":   {args: "--count 5 --output-file FILE", says: "error: interrupted\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			if name == "interrupt" {
				test.created = interrupt
			}
			a, file := newAPI(t, login).put(t, "ghijkl"), filepath.Join(t.TempDir(), "token")
			a.after = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost && test.created != nil {
					test.created()
				}
				return false
			}
			stdout, stderr, _ := a.run(ctx, test.out, "create "+strings.ReplaceAll(test.args, "FILE", file))
			if !strings.Contains(stderr, test.says) || !strings.Contains(stderr, "removing ") ||
				strings.Contains(stderr, secret) || stdout != "" || !slices.Equal(a.ids(), []string{"ghijkl"}) {
				t.Errorf("the cluster holds %v; got\n%s%s", a.ids(), stdout, stderr)
			}
			if _, err := os.Stat(file); err == nil || !slices.ContainsFunc(a.requests, func(r string) bool { return strings.HasPrefix(r, "DELETE ") }) {
				t.Errorf("a file is left (%v), or nothing was created", err)
			}
		})
	}
}

func TestTokensThatCouldBeCreatedAreDelivered(t *testing.T) {
	t.Parallel()
	a, posts := newAPI(t, login), 0
	a.after = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			if posts++; posts == 2 {
				cut()
			}
		}
		return false
	}
	a.before = func(w http.ResponseWriter, r *http.Request) bool {
		quota := r.Method == http.MethodPost && posts == 4
		if quota {
			reply(w, nil, apierrors.NewForbidden(corev1.Resource("secrets"), "x", fmt.Errorf("exceeded quota")))
		}
		return quota
	}
	stdout, stderr, err := a.run(t.Context(), nil, "create --count 9")
	if len(a.ids()) != 3 || strings.Count(stdout, "\n") != 3 || err == nil || strings.Count(stderr, "exceeded quota") != 1 || strings.Count(stderr, "hint: ") != 1 ||
		!strings.Contains(stderr, "error: 1 token perhaps created") || !strings.HasSuffix(stderr, "error: 3 of 9 tokens were created\n") {
		t.Errorf("the cluster holds %v, printed %d lines, and\n%s", a.ids(), strings.Count(stdout, "\n"), stderr)
	}
	for _, id := range a.ids() {
		if !strings.Contains(stdout, "::"+id+".") {
			t.Errorf("%s is not printed", id)
		}
	}
}

func TestATokenStaysIfTheWaitForANodeFails(t *testing.T) {
	t.Parallel()
	a := newAPI(t, login)
	a.wants(t, "create - --wait --wait-timeout 1ns --delete-on-interrupt --delete-after-join", "::"+given+"\n",
		"1 token left in the cluster: abcdef\nerror: timed out after 0s waiting for a new node: none has registered\nhint: ")
	for option, said := range map[string]string{"": "1 token left in the cluster: ", " --delete-on-interrupt": "deleted: "} {
		ctx, interrupt := context.WithCancel(t.Context())
		_, stderr, _ := a.run(ctx, func([]byte) error { interrupt(); return nil }, "create --ttl 1m --wait=w1"+option)
		if !strings.Contains(stderr, "for node \"w1\" to become Ready\nWarning: the token expires before the wait is over\n"+said) {
			t.Errorf("%s: got\n%s", option, stderr)
		}
	}
	if len(a.ids()) != 2 {
		t.Errorf("the cluster holds %v", a.ids())
	}
}

// TestAWatchHasARowForEachChange has a token that becomes malformed and goes.
func TestAWatchHasARowForEachChange(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"text": `TOKEN    TTL         EXPIRES   STATUS   DESCRIPTION
abcdef   <forever>   <never>   Active   <none>
abcdef   <invalid>   <invalid>   Invalid: token-secret is not 16 of a-z and 0-9   <none>
abcdef   <forever>   <never>     Deleted                                          <none>
`,
		"jsonpath={.id}/{.status},": "abcdef/Active,abcdef/Invalid,abcdef/Deleted,",
	} {
		a := newAPI(t, login)
		a.wants(t, "create - --ttl 0", "::"+given, "Warning: the token never expires")
		a.before = func(w http.ResponseWriter, r *http.Request) bool {
			if query := r.URL.Query(); !query.Has("watch") || query.Get("labelSelector") != "!rack" || query.Get("resourceVersion") != "1" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			for _, event := range []string{"BOOKMARK", "MODIFIED", "DELETED"} {
				_, _ = fmt.Fprintf(w, `{"type": %q, "object": {"kind": "Secret", "apiVersion": "v1", "type": "bootstrap.kubernetes.io/token",
					"metadata": {"name": "bootstrap-token-abcdef", "resourceVersion": "2"}, "data": {"token-id": "YWJjZGVm"}}}`, event)
			}
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		}
		ctx, interrupt := context.WithCancel(t.Context())
		var rows strings.Builder
		_, stderr, _ := a.run(ctx, func(p []byte) error {
			rows.Write(p)
			if strings.Contains(rows.String(), "Deleted") {
				interrupt()
			}
			return nil
		}, "list --watch -l !rack -o "+format)
		if rows.String() != want || stderr != "error: interrupted\n" {
			t.Errorf("got %q and\n%s", stderr, &rows)
		}
	}
}

// TestCommandsOnTokens has one command after the other. The scripts for the real K3s have
// many more.
func TestCommandsOnTokens(t *testing.T) {
	t.Parallel()
	const url = " --url https://k3s.example.com:6443"
	a := newAPI(t, login)
	a.wants(t, "create - --description rack\x1b7 --labels rack=7 -n kube-system", "::"+given+"\n", "")
	a.wants(t, "create - --dry-run=client --print-join-command"+url, " INSTALL_K3S_VERSION='v1.31.1+k3s1' sh -\n", "1 token not created (dry run)\n")
	a.wants(t, "create --usages signing --dry-run=client -o jsonpath={.usages}", `["signing"]`, "no usage authentication\n")
	a.wants(t, "create --count 2 --dry-run=client -o jsonpath={.kind}", "BootstrapTokenList", "Warning: the output leaves out the token's secret")
	a.wants(t, "create - --dry-run=client -o name", "secret/bootstrap-token-abcdef\n", "dry run")
	a.put(t, "ghijkl")

	a.wants(t, "join-command - --format agent --node-label a=b"+url, "::"+given+"' --node-label 'a=b'\n", "")
	a.wants(t, "join-command "+password+" --format config --ca-file "+caFile+url, "token: K10"+hash+":::"+password+"\n", "")
	a.wants(t, "join-command K10"+hash+"::server:"+password+url, "K3S_TOKEN='K10"+hash, "Warning: the token's CA hash is not that of this cluster; ")

	a.wants(t, "list -l rack=7 --show-labels --no-headers", "Active   rack\ufffd7   rack=7\n", "")
	a.wants(t, "list --expired", "", "No bootstrap tokens found.\n")
	a.wants(t, "extend -l rack=7 --expires-at 2099-01-31T12:00:00+02:00", "bootstrap token \"abcdef\" expires at 2099-01-31T10:00:00Z\n", "")
	a.wants(t, "extend - abcdef -o jsonpath={.kind}/{.items[*].id}/ --ttl 0", "BootstrapTokenList/abcdef/", "Warning: the token never expires")
	a.wants(t, "extend abcdef --ttl 1h --dry-run=client -o jsonpath={.kind}", "BootstrapToken", "")
	offers, _, err := run(t.Context(), nil, "__complete", "delete", "--kubeconfig", a.kubeconfig, "secret/bootstrap-token-abcdef", "")
	if !strings.HasPrefix(offers, "ghijkl\t") || !strings.HasSuffix(offers, ", <none>\n:4\n") {
		t.Errorf("got %v, and offers %q", err, offers)
	}
	a.wants(t, "delete --all", "", "hint: add --yes to delete all 2 tokens of test ("+a.URL+")\n")
	a.wants(t, "delete --expired", "", "No bootstrap tokens found.\n")
	a.wants(t, "delete nothin secret/bootstrap-token-ghijkl -o name", "secret/bootstrap-token-ghijkl\n", "Error from server (NotFound): ")
	a.before = func(w http.ResponseWriter, r *http.Request) bool { // K3s has removed it meanwhile
		gone := r.Method == http.MethodDelete
		if gone {
			reply(w, nil, apierrors.NewNotFound(corev1.Resource("secrets"), "bootstrap-token-abcdef"))
		}
		return gone
	}
	a.wants(t, "delete -l rack=7", "", "")
	a.before = nil
	a.wants(t, "delete -l rack=7", "bootstrap token \"abcdef\" deleted\n", "")

	a.version = "v1.31.1+rke2r1"
	a.wants(t, "create --dry-run=client -o jsonpath={.groups}{.token}", `["system:bootstrappers:rke2:default-node-token"]K10`, "dry run")
	a.version = "v1.31.1"
	a.wants(t, "create --dry-run=client", "K10", "Warning: the server is neither K3s nor RKE2; ")
}
