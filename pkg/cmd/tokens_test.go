package cmd_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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
		"full disk":   {args: given, out: func() error { return syscall.ENOSPC }, says: "error: the token could not be written out: no space left on device\n"},
		"closed pipe": {args: "--count 5", out: func() error { return syscall.EPIPE }, says: "error: the token could not be written out: broken pipe\n"},
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

func TestCreateMakesWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	const url = " --url https://k3s.example.com:6443"
	for args, want := range map[string][3]string{ // version, and patterns of stdout and stderr
		"": {"", `K10[0-9a-f]{64}::` + given + `\n`},
		"--ttl 1w -o jsonpath={.kind}/{.id}/{.status}/{.token}/{.server}": {"", `BootstrapToken/abcdef/Active/K10.*::` + given + `/https://127\.0\.0\.1:\d+`},
		"-o jsonpath={.groups}": {"v1.31.1+rke2r1", `\["system:bootstrappers:rke2:default-node-token"\]`},
		"-o jsonpath={.groups} --groups system:bootstrappers:b,system:bootstrappers:a": {"", `\["system:bootstrappers:b","system:bootstrappers:a"\]`},
		"--ca-file " + caFile:                              {"", `K10` + hash + `::` + given + `\n`},
		"--usages signing -o jsonpath={.usages}":           {"", `\["signing"\]`, `Warning: no node can join with the token: no usage authentication\n`},
		"--print-join-command" + url:                       {"", `curl .* K3S_TOKEN='K10.*::` + given + `' INSTALL_K3S_VERSION='v1\.31\.1\+k3s1' sh -\n`},
		"--description vanilla -o jsonpath={.description}": {"v1.31.1", `vanilla`, `Warning: the server is neither K3s nor RKE2; .*\n`},
		"--dry-run=client":                                 {"", `K10.*`, `1 token not created \(dry run\)\n`},
	} {
		a := newAPI(t, login)
		if want[0] != "" {
			a.version = want[0]
		}
		stdout, stderr, err := a.run(t.Context(), nil, strings.TrimSpace("create "+given+" "+args))
		if !regexp.MustCompile(`\A(?s:`+want[1]+`)\z`).MatchString(stdout) || !regexp.MustCompile(`\A`+want[2]+`\z`).MatchString(stderr) || (err == nil) != (len(a.ids()) == 1 || strings.Contains(args, "dry")) {
			t.Errorf("%s: got %v, printed %q, %q", args, err, stdout, stderr)
		}
	}
	a := newAPI(t, login)
	a.wants(t, "create --count 2 -o jsonpath={.kind}:{.items[*].caHash}", "BootstrapTokenList:", "Warning: the output leaves out the token's secret")
}

func TestSelectorsAndNames(t *testing.T) {
	t.Parallel()
	a := newAPI(t, login)
	a.wants(t, "create - --description rack7 --labels rack=7 -n kube-system", "::"+given+"\n", "")
	a.put(t, "ghijkl")
	a.wants(t, "list -l rack=7 --show-labels --no-headers", "Active   rack7   rack=7\n", "")
	a.wants(t, "list -l rack=8", "", "No bootstrap tokens found.\n")
	a.wants(t, "extend -l rack=7 --expires-at 2099-01-31T12:00:00+02:00", "bootstrap token \"abcdef\" expires at 2099-01-31T10:00:00Z\n", "")
	a.wants(t, "extend - abcdef -o jsonpath={.kind}/{.items[*].id}/ --ttl 0", "BootstrapTokenList/abcdef/", "Warning: the token never expires")
	a.wants(t, "extend abcdef -o jsonpath={.kind}/{.expires} --expires-at 2099-01-31T10:00:00Z --dry-run=client", "BootstrapToken/2099-01-31T10:00:00Z", "")
	offers, _, err := run(t.Context(), nil, "__complete", "delete", "--kubeconfig", a.kubeconfig, "secret/bootstrap-token-abcdef", "")
	if !strings.HasPrefix(offers, "ghijkl\t") || !strings.HasSuffix(offers, ", <none>\n:4\n") {
		t.Errorf("got %v, and offers %q", err, offers)
	}
	a.wants(t, "delete --all", "", "hint: add --yes to delete all 2 tokens of test ("+a.URL+")\n")
	a.wants(t, "delete --expired", "", "No bootstrap tokens found.\n")
	a.wants(t, "delete -l rack=7", "bootstrap token \"abcdef\" deleted\n", "")
	a.wants(t, "delete nothin --ignore-not-found", "", "")
	a.wants(t, "delete nothin secret/bootstrap-token-ghijkl -o name", "secret/bootstrap-token-ghijkl\n", "Error from server (NotFound): secrets \"bootstrap-token-nothin\" not found\n")
}

// TestNothingIsSaidToBeDoneThatWasNot has a token whose answer is lost, one that
// somebody else has changed, and one that is gone.
func TestNothingIsSaidToBeDoneThatWasNot(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"delete", "extend --ttl 1h"} {
		a := newAPI(t, login).put(t, "aaaaaa", "bbbbbb", "cccccc", "dddddd")
		a.before = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.Method != http.MethodDelete && r.Method != http.MethodPatch:
			case strings.Contains(r.URL.Path, "aaaaaa"):
				cut()
			case strings.Contains(r.URL.Path, "bbbbbb"):
				reply(w, nil, apierrors.NewConflict(corev1.Resource("secrets"), "bootstrap-token-bbbbbb", fmt.Errorf("changed")))
				return true
			case strings.Contains(r.URL.Path, "cccccc"):
				reply(w, nil, apierrors.NewForbidden(corev1.Resource("secrets"), "bootstrap-token-cccccc", fmt.Errorf(`User "jane" cannot delete resource`)))
				return true
			}
			return false
		}
		stdout, stderr, err := a.run(t.Context(), nil, verb+" aaaaaa bbbbbb cccccc dddddd")
		done, _, _ := strings.Cut(verb, " ")
		done = strings.TrimSuffix(done, "e") + "ed"
		for _, want := range []string{
			"error: the answer was lost for 1 token, perhaps " + done + ": aaaaaa\nhint: look with: kubectl k3s-token list\n",
			`Error from server (Conflict): Operation cannot be fulfilled on secrets "bootstrap-token-bbbbbb": changed` + "\n", "hint: the Role for each command",
		} {
			if !strings.Contains(stderr, want) || strings.Count(stdout, "\n") != 1 || !strings.Contains(stdout, "dddddd") || err == nil {
				t.Errorf("%s: lacks %q; got\n%s%s", verb, want, stdout, stderr)
			}
		}
	}
}
