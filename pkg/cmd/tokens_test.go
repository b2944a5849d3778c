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
	"time"

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
		"blocked":     {args: given, says: "error: the token could not be written out: context canceled\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			switch name {
			case "interrupt":
				test.created = interrupt
			case "blocked":
				test.out = func() error { interrupt(); time.Sleep(30 * time.Second); return nil }
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

func TestTheIDsOfTokensThatMayBeLeftAreNamed(t *testing.T) {
	t.Parallel()
	for _, args := range []string{given, "--count 3"} {
		a := newAPI(t, login)
		a.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				reply(w, nil, apierrors.NewForbidden(corev1.Resource("secrets"), "", nil))
			}
			return r.Method == http.MethodDelete
		}
		_, stderr, _ := a.run(t.Context(), func() error { return syscall.ENOSPC }, "create "+args)
		ids := strings.Join(a.ids(), " ")
		named := regexp.MustCompile(`Forbidden.*\nerror: .* not removed: (.*)\nhint: run later: kubectl k3s-token delete --ignore-not-found (.*)\n$`).FindStringSubmatch(stderr)
		if len(named) != 3 || ids == "" {
			t.Fatalf("the cluster holds %s:\n%s", ids, stderr)
		}
		for _, got := range named[1:] {
			words := strings.Fields(got)
			if slices.Sort(words); strings.Join(words, " ") != ids {
				t.Errorf("the cluster holds %s:\n%s", ids, stderr)
			}
		}
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

func TestTheOutputFileIsPrivateAndNeverOverwritten(t *testing.T) {
	t.Parallel()
	a, file := newAPI(t, login), filepath.Join(t.TempDir(), "token")
	a.wants(t, "create "+given+" --output-file "+file, "", "1 token written to "+file+"\n")
	content, err := os.ReadFile(file)
	if info, _ := os.Stat(file); err != nil || !strings.HasSuffix(string(content), "::"+given+"\n") || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("got %v, %v", info, err)
	}
	a.wants(t, "create --output-file "+file, "", "error: --output-file: "+file+" exists\nhint: name a new file\n")
	a.wants(t, "create --output-file "+filepath.Join(file, "x"), "", "error: --output-file: open ")
	a.wants(t, "create "+given+" --output-file "+file+"2", "", "error: token \"abcdef\" already exists\nhint: choose another id")
	a.wants(t, "create --dry-run=server --output-file "+file+"2", "::", "1 token not created (server dry run)\n")
	again, _ := os.ReadFile(file)
	if _, err := os.Stat(file + "2"); string(again) != string(content) || err == nil || len(a.ids()) != 1 {
		t.Errorf("the file was overwritten, or one without a token is left (%v), or there are tokens: %v", err, a.ids())
	}
}

func TestCreateMakesWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	const url = " --url https://k3s.example.com:6443"
	for args, want := range map[string][3]string{ // version, and patterns of stdout and stderr
		"":        {"", `K10[0-9a-f]{64}::` + given + `\n`},
		"-o name": {"", `secret/bootstrap-token-abcdef\n`},
		"--ttl 1w -o jsonpath={.kind}/{.id}/{.status}/{.token}/{.server}": {"", `BootstrapToken/abcdef/Active/K10.*::` + given + `/https://127\.0\.0\.1:\d+`},
		"-o jsonpath={.groups}": {"v1.31.1+rke2r1", `\["system:bootstrappers:rke2:default-node-token"\]`},
		"-o jsonpath={.groups} --groups system:bootstrappers:b,system:bootstrappers:a": {"", `\["system:bootstrappers:a","system:bootstrappers:b"\]`},
		"--labels a=b,c=d -o jsonpath={.metadata.labels}":                              {"", `{"a":"b","c":"d"}`},
		"--ca-file " + caFile:                              {"", `K10` + hash + `::` + given + `\n`},
		"--token-format short --ttl 0":                     {"", given + `\n`, `Warning: the token never expires; .*\n`},
		"--usages signing,signing -o jsonpath={.usages}":   {"", `\["signing"\]`, `Warning: no node can join with the token: no usage authentication\n`},
		"--print-join-command=agent" + url:                 {"", `k3s agent --server 'https://k3s\.example\.com:6443' --token 'K10.*::` + given + `'\n`},
		"--print-join-command" + url:                       {"", `curl .* K3S_TOKEN='K10.*::` + given + `' INSTALL_K3S_VERSION='v1\.31\.1\+k3s1' sh -\n`},
		"--print-join-command=config":                      {"", `server: https://127.*\ntoken: K10.*\n`, `Warning: 127\.0\.0\.1 leads a node to itself.*\n`},
		"--description vanilla -o jsonpath={.description}": {"v1.31.1", `vanilla`, `Warning: the server is neither K3s nor RKE2; .*\n`},
		"--url k3s":                {"", "", "error: the server URL has no scheme\nhint: .*\n"},
		"-o go-template={{.id.x}}": {"", "", "error: error executing template .*\n"},
		"--dry-run=client":         {"", `K10.*`, `1 token not created \(dry run\)\n`},
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
	a.wants(t, "list --expired -o wide", "", "No bootstrap tokens found.\n")
	a.wants(t, "extend -l rack=7 --expires-at 2099-01-31T12:00:00+02:00", "bootstrap token \"abcdef\" expires at 2099-01-31T10:00:00Z\n", "")
	a.wants(t, "extend - abcdef -o jsonpath={.kind}/{.items[*].id}/ --ttl 0", "BootstrapTokenList/abcdef/", "Warning: the token never expires")
	a.wants(t, "extend abcdef -o jsonpath={.kind}/{.expires} --expires-at 2099-01-31T10:00:00Z --dry-run=client", "BootstrapToken/2099-01-31T10:00:00Z", "")
	a.wants(t, "extend -l rack=8 --ttl 1h", "", "No bootstrap tokens found.\n")
	a.wants(t, "extend abcdef."+strings.Repeat("x", 16)+" --ttl 1h", "", "error: the token has another secret in this cluster\nhint: check that the token belongs to this cluster\nerror: 1 token not extended: abcdef\n")
	offers, _, err := run(t.Context(), nil, "__complete", "delete", "--kubeconfig", a.kubeconfig, "secret/bootstrap-token-abcdef", "")
	if !strings.HasPrefix(offers, "ghijkl\t") || !strings.HasSuffix(offers, ", <none>\n:4\n") {
		t.Errorf("got %v, and offers %q", err, offers)
	}
	a.wants(t, "delete --all", "", "hint: add --yes to delete all 2 tokens of test ("+a.URL+")\n")
	a.wants(t, "delete --all --dry-run=client", "bootstrap token \"abcdef\" deleted (dry run)\nbootstrap token \"ghijkl\" deleted (dry run)\n", "")
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
				reply(w, nil, apierrors.NewForbidden(corev1.Resource("secrets"), "bootstrap-token-cccccc", fmt.Errorf(`User "jane" cannot`)))
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

func TestAnInterruptCountsWhatIsLeft(t *testing.T) {
	t.Parallel()
	for verb, method := range map[string]string{"delete --all --yes": http.MethodDelete, "extend -l a!=b --ttl 1h": http.MethodPatch} {
		ctx, interrupt := context.WithCancel(t.Context())
		a := newAPI(t, login)
		a.wants(t, "create --count 36 -o name", "secret/", "Warning: ")
		done := 0
		a.after = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == method {
				interrupt()
				done++
			}
			return false
		}
		stdout, stderr, err := a.run(ctx, nil, verb)
		if want := fmt.Sprintf("error: interrupted: %d tokens left unchanged\n", 36-done); err == nil || done == 36 || !strings.HasSuffix(stderr, want) || strings.Count(stdout, "\n") > done {
			t.Errorf("%s: %d done, %d printed, got %q", verb, done, strings.Count(stdout, "\n"), stderr)
		}
	}
}
