package cmd_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

const someHash = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"

func TestDeleteTakesATokenByAnyOfItsNames(t *testing.T) {
	for _, name := range []string{"abcdef", given, "K10" + someHash + "::" + given, "bootstrap-token-abcdef", "secret/bootstrap-token-abcdef"} {
		c := newCluster(t)
		c.put("abcdef", nil)
		c.put("ghijkl", nil)
		got := c.run(t, "delete", name)
		if got.code != 0 || got.out != "bootstrap token \"abcdef\" deleted\n" || got.stderr != "" {
			t.Errorf("exit code %d, stdout %q, stderr %q", got.code, mask(got.out), mask(got.stderr))
		}
		c.holds(t, "ghijkl")
	}
}

func TestDeleteReadsStdin(t *testing.T) {
	c := newCluster(t)
	for _, id := range []string{"abcdef", "ghijkl", "mnopqr", "stuvwx"} {
		c.put(id, nil)
	}
	got := call{cluster: c, args: []string{"delete", "stuvwx", "-", "-o", "name"}, stdin: "\n" + given + "\r\n  secret/bootstrap-token-ghijkl\n\n"}.run(t)
	got.wants(t, 0, "secret/bootstrap-token-stuvwx\nsecret/bootstrap-token-abcdef\nsecret/bootstrap-token-ghijkl\n", "")
	c.holds(t, "mnopqr")
}

func TestDeleteTakesWhatListPrints(t *testing.T) {
	c := newCluster(t)
	for _, id := range []string{"abcdef", "ghijkl"} {
		c.put(id, nil)
	}
	c.put("badodd", func(s *corev1.Secret) { s.Name = "bootstrap-token-odd.name" })
	names := c.run(t, "list", "-o", "name").out
	got := call{cluster: c, args: []string{"delete", "-", "-o", "name"}, stdin: names}.run(t)
	if got.code != 0 || got.out != names {
		t.Errorf("exit code %d, stdout %q, want %q; stderr %q", got.code, got.out, names, got.stderr)
	}
	c.holds(t)
}

func TestDeleteTriesAllAndReportsEachFailure(t *testing.T) {
	c := newCluster(t)
	for _, id := range []string{"abcdef", "ghijkl", "forbid", "otherp"} {
		c.put(id, nil)
	}
	c.put("opaque", func(s *corev1.Secret) { s.Type = "Opaque" })
	c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method != http.MethodDelete || !strings.HasSuffix(req.Path, "forbid") {
			return false
		}
		apitest.Fail(w, req, apierrors.NewForbidden(secretsResource, "bootstrap-token-forbid", errors.New("not yours")))
		return true
	})
	const otherSecret = "zzzzzzzzzzzzzzzz"
	got := c.run(t, "delete", "abcdef", "nothin", "forbid", "otherp."+otherSecret, "opaque", "ghijkl")
	got.wants(t, 1, "bootstrap token \"abcdef\" deleted\nbootstrap token \"ghijkl\" deleted\n", "Error from server")
	for _, want := range []string{
		`Error from server (NotFound): secrets "bootstrap-token-nothin" not found`,
		`Error from server (Forbidden): secrets "bootstrap-token-forbid" is forbidden: not yours`,
		`error: token "otherp": its secret is not the one that this cluster has for that id`,
		`error: token "opaque": secret "bootstrap-token-opaque" is of type "Opaque", not a bootstrap token`,
	} {
		if strings.Count(got.stderr, want) != 1 {
			t.Errorf("stderr lacks %q:\n%s", want, mask(got.stderr))
		}
	}
	got.hides(t, secretPart)
	got.hides(t, otherSecret)
	c.holds(t, "forbid", "opaque", "otherp")
}

func TestDeleteOfWhatIsNamedTwice(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	got := c.run(t, "delete", "abcdef", given, "secret/bootstrap-token-abcdef", "abcdef")
	if got.code != 0 || got.out != "bootstrap token \"abcdef\" deleted\n" || got.stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.code, got.out, mask(got.stderr))
	}
	if writes := c.Writes(); len(writes) != 1 {
		t.Errorf("writes %v", writes)
	}
}

func TestDeleteIgnoresWhatIsNotThereWhereAsked(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	c.put("opaque", func(s *corev1.Secret) { s.Type = "Opaque" })
	c.run(t, "delete", "nothin", "--ignore-not-found").wants(t, 0, "", "")
	c.run(t, "delete", "nothin", "abcdef", "opaque", "--ignore-not-found").wants(t, 1, `"abcdef" deleted`, "not a bootstrap token")
	// One that goes away between the look and the delete.
	c.put("abcdef", nil)
	c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodDelete {
			c.Remove("bootstrap-token-abcdef")
		}
		return false
	})
	c.run(t, "delete", "abcdef", "--ignore-not-found").wants(t, 0, "", "")
}

func TestDeleteOfAllDoesNotMindWhatGoesAwayByItself(t *testing.T) {
	for _, which := range []string{"--all", "--expired"} {
		c := newCluster(t)
		for _, id := range []string{"abcdef", "ghijkl"} {
			c.put(id, func(s *corev1.Secret) { s.Data["expiration"] = []byte("2020-01-01T00:00:00Z") })
		}
		// K3s removes an expired token in the middle.
		c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			if req.Method == http.MethodDelete {
				c.Remove("bootstrap-token-abcdef")
			}
			return false
		})
		got := c.run(t, "delete", which, "--yes", "--parallel=1")
		if got.code != 0 || got.out != "bootstrap token \"ghijkl\" deleted\n" || got.stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", which, got.code, got.out, got.stderr)
		}
	}
}

func TestDeleteDoesNothingWithHalfAList(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	for name, call := range map[string]call{
		"bad argument":                 {args: []string{"delete", "abcdef", "hunter2hunter2"}},
		"bad line":                     {args: []string{"delete", "abcdef", "-"}, stdin: "abcdef\nhunter2hunter2\n"},
		"server token":                 {args: []string{"delete", "abcdef", "K10" + someHash + "::server:hunter2hunter2"}},
		"nothing on stdin":             {args: []string{"delete", "-"}, stdin: " \n"},
		"nothing":                      {args: []string{"delete"}},
		"expired and token":            {args: []string{"delete", "--expired", "abcdef"}},
		"all and expired":              {args: []string{"delete", "--expired", "--all", "--yes"}},
		"all and token":                {args: []string{"delete", "--all", "--yes", "abcdef"}},
		"all without a terminal":       {args: []string{"delete", "--all"}},
		"output that it does not know": {args: []string{"delete", "abcdef", "-o", "json"}},
	} {
		t.Run(name, func(t *testing.T) {
			call.cluster = c
			got := call.run(t)
			got.wants(t, 1, "", "error: ")
			got.hides(t, "hunter2")
			c.holds(t, "abcdef")
		})
	}
	if writes := c.Writes(); len(writes) > 0 {
		t.Errorf("writes %v", writes)
	}
	got := call{cluster: c, args: []string{"delete", "-"}, stdin: "abcdef\n\nhunter2hunter2\n"}.run(t)
	got.wants(t, 1, "", "error: line 3 of standard input: it is neither a token id")
	c.run(t, "delete", "abcdef", "hunter2hunter2").wants(t, 1, "", "error: TOKEN 2: it is neither a token id")
}

func TestDeleteExpired(t *testing.T) {
	c := zoo(t)
	c.run(t, "delete", "--expired").wants(t, 0, "bootstrap token \"expire\" deleted\n", "")
	c.holds(t, "active", "badend", "foreve", "nosecr", "opaque")
	c.run(t, "delete", "--expired").wants(t, 0, "", "No bootstrap tokens found.\n")
}

// A token may be extended after it was seen to have expired.
func TestDeleteExpiredSparesATokenThatWasExtendedMeanwhile(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", set("expiration", now.Add(-time.Hour).Format(time.RFC3339)))
	c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodDelete {
			extended := c.Secret("bootstrap-token-abcdef")
			extended.Data["expiration"] = []byte(now.Add(time.Hour).Format(time.RFC3339))
			c.Put(extended)
		}
		return false
	})
	c.run(t, "delete", "--expired").wants(t, 1, "", "Error from server (Conflict)")
	c.holds(t, "abcdef")
}

func TestDeleteAll(t *testing.T) {
	c := zoo(t)
	got := c.run(t, "delete", "--all")
	got.wants(t, 1, "", "there is no terminal to ask on: add --yes to delete all 5 tokens of the cluster test (https://127.0.0.1:")
	if writes := c.Writes(); len(writes) > 0 {
		t.Errorf("writes %v", writes)
	}
	got = c.run(t, "delete", "--all", "--yes")
	got.wants(t, 0, `bootstrap token "nosecr" deleted`, "")
	if strings.Count(got.out, " deleted\n") != 5 {
		t.Errorf("stdout %q", got.out)
	}
	c.holds(t, "opaque")
	c.run(t, "delete", "--all").wants(t, 0, "", "No bootstrap tokens found.\n")
}

func TestDeleteOfMany(t *testing.T) {
	c := newCluster(t)
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("id%04d", i))
		c.put(names[i], nil)
	}
	got := c.run(t, append([]string{"delete"}, names...)...)
	if got.code != 0 || strings.Count(got.out, " deleted\n") != 200 || got.stderr != "" {
		t.Errorf("exit code %d, %d lines, stderr %q", got.code, strings.Count(got.out, "\n"), got.stderr)
	}
	c.holds(t)
	if n := len(c.Requests()); n != 201 {
		t.Errorf("%d requests, want a list and 200 deletes", n)
	}
}

func TestDryRunOfDelete(t *testing.T) {
	for dry, want := range map[string]string{
		"client": "bootstrap token \"abcdef\" deleted (dry run)\n",
		"server": "bootstrap token \"abcdef\" deleted (server dry run)\n",
	} {
		c := newCluster(t)
		c.put("abcdef", nil)
		c.run(t, "delete", "abcdef", "--dry-run", dry).wants(t, 0, want, "")
		c.run(t, "delete", "--all", "--dry-run", dry).wants(t, 0, want, "")
		c.run(t, "delete", "nothin", "--dry-run", dry).wants(t, 1, "", "NotFound")
		c.holds(t, "abcdef")
		deletes := slices.DeleteFunc(c.Requests(), func(r apitest.Request) bool { return r.Method != http.MethodDelete })
		if want := map[string]int{"client": 0, "server": 2}[dry]; len(deletes) != want || len(c.Writes()) > 0 {
			t.Errorf("%s: deletes %v, want %d", dry, deletes, want)
		}
	}
}

func TestAnInterruptOfDeleteSaysWhatIsLeft(t *testing.T) {
	c := newCluster(t)
	for i := range 200 {
		c.put(fmt.Sprintf("id%04d", i), nil)
	}
	ctx, interrupt := interruptible(t)
	var deletes atomic.Int64
	c.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodDelete && deletes.Add(1) == 10 {
			interrupt()
		}
		return false
	})
	got := call{cluster: c, ctx: ctx, args: []string{"delete", "--all", "--yes"}}.run(t)
	got.wants(t, 130, " deleted\n", "error: interrupted")
	if lines := strings.Count(got.stderr, "\n"); lines > 3 {
		t.Errorf("%d lines on stderr:\n%s", lines, got.stderr)
	}
	if deleted := strings.Count(got.out, " deleted\n"); deleted+len(c.Names()) != 200 {
		t.Errorf("%d are said to be deleted, and %d of 200 are left", deleted, len(c.Names()))
	}
}

func TestExtend(t *testing.T) {
	for name, test := range map[string]struct {
		args       []string
		expiration string
		out        string
		stderr     string
	}{
		"from now":   {[]string{"--ttl", "24h"}, "2025-06-02T12:00:00Z", "bootstrap token \"abcdef\" expires at 2025-06-02T12:00:00Z\n", ""},
		"shorter":    {[]string{"--ttl", "1m"}, "2025-06-01T12:01:00Z", "bootstrap token \"abcdef\" expires at 2025-06-01T12:01:00Z\n", ""},
		"to an end":  {[]string{"--expires-at", "2030-01-31T12:00:00+02:00"}, "2030-01-31T10:00:00Z", "bootstrap token \"abcdef\" expires at 2030-01-31T10:00:00Z\n", ""},
		"for ever":   {[]string{"--ttl", "0"}, "", "bootstrap token \"abcdef\" never expires\n", "Warning: a token that never expires"},
		"as name":    {[]string{"--ttl", "24h", "-o", "name"}, "2025-06-02T12:00:00Z", "secret/bootstrap-token-abcdef\n", ""},
		"as a field": {[]string{"--ttl", "24h", "-o", "jsonpath={.expires}"}, "2025-06-02T12:00:00Z", "2025-06-02T12:00:00Z", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.put("abcdef", nil)
			got := c.run(t, append([]string{"extend", given}, test.args...)...)
			got.wants(t, 0, test.out, test.stderr)
			got.hides(t, secretPart)
			if expiration := string(c.Secret("bootstrap-token-abcdef").Data["expiration"]); expiration != test.expiration {
				t.Errorf("it ends at %q, want %q", expiration, test.expiration)
			}
			if n := len(c.Requests()); n != 2 {
				t.Errorf("%d requests, want 2", n)
			}
		})
	}
}

func TestExtendTriesAll(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	c.put("ghijkl", nil)
	got := c.run(t, "extend", "abcdef", "nothin", "ghijkl.zzzzzzzzzzzzzzzz", "--ttl", "24h", "-o", "jsonpath={.kind} {.items[*].id}")
	got.wants(t, 1, "BootstrapTokenList abcdef", `error: token "ghijkl": its secret is not the one`)
	if !strings.Contains(got.stderr, `Error from server (NotFound): secrets "bootstrap-token-nothin" not found`) {
		t.Errorf("stderr is %s", mask(got.stderr))
	}
}

func TestExtendOfWhatIsNamedTwice(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	got := c.run(t, "extend", "abcdef", given, "secret/bootstrap-token-abcdef", "--ttl", "24h")
	if got.code != 0 || strings.Count(got.out, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", got.code, got.out, mask(got.stderr))
	}
}

func TestExtendRefusesBeforeItAsksTheCluster(t *testing.T) {
	c := newCluster(t)
	for want, args := range map[string][]string{
		"name the tokens to extend":              {"--ttl", "1h"},
		"at least one of the flags in the group": {"abcdef"},
		"negative duration":                      {"abcdef", "--ttl", "-1h"},
		"would expire before":                    {"abcdef", "--ttl", "1ms"},
		"neither a token id":                     {"hunter2hunter2", "--ttl", "1h"},
		"unknown output format":                  {"abcdef", "--ttl", "1h", "-o", "wide"},
	} {
		got := c.run(t, append([]string{"extend"}, args...)...)
		got.wants(t, 1, "", want)
		got.hides(t, "hunter2")
	}
	if requests := c.Requests(); len(requests) > 0 {
		t.Errorf("requests %v", requests)
	}
}

// When the past begins is for the server to say.
func TestExtendIntoThePastChangesNothing(t *testing.T) {
	for _, dryRun := range []string{"none", "client", "server"} {
		c := newCluster(t)
		c.put("abcdef", nil)
		c.run(t, "extend", "abcdef", "--expires-at", "2020-01-31T12:00:00Z", "--dry-run", dryRun).wants(t, 1, "", "error: --expires-at 2020-01-31T12:00:00Z is in the past")
		if writes := c.Writes(); len(writes) > 0 {
			t.Errorf("requests %v", writes)
		}
	}
}

func TestDryRunOfExtend(t *testing.T) {
	for dry, want := range map[string]string{
		"client": "bootstrap token \"abcdef\" expires at 2025-06-02T12:00:00Z (dry run)\n",
		"server": "bootstrap token \"abcdef\" expires at 2025-06-02T12:00:00Z (server dry run)\n",
	} {
		c := newCluster(t)
		c.put("abcdef", nil)
		c.run(t, "extend", "abcdef", "--ttl", "24h", "--dry-run", dry).wants(t, 0, want, "")
		c.run(t, "extend", "nothin", "--ttl", "24h", "--dry-run", dry).wants(t, 1, "", "NotFound")
		patches := slices.DeleteFunc(c.Requests(), func(r apitest.Request) bool { return r.Method != http.MethodPatch })
		if want := map[string]int{"client": 0, "server": 1}[dry]; len(patches) != want || len(c.Writes()) > 0 {
			t.Errorf("%s: patches %v, want %d", dry, patches, want)
		}
		if expiration := string(c.Secret("bootstrap-token-abcdef").Data["expiration"]); expiration != "2025-06-01T13:00:00Z" {
			t.Errorf("%s: it ends at %q", dry, expiration)
		}
	}
}

func TestErrorsOfTheAPIReadAsInKubectl(t *testing.T) {
	fail := func(err *apierrors.StatusError) apitest.Hook {
		return func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			apitest.Fail(w, req, err)
			return true
		}
	}
	for name, test := range map[string]struct {
		hook apitest.Hook
		want string
	}{
		"forbidden":      {fail(apierrors.NewForbidden(secretsResource, "", errors.New("you may not"))), "Error from server (Forbidden): secrets is forbidden: you may not\nhint: "},
		"unauthorized":   {fail(apierrors.NewUnauthorized("Unauthorized")), "error: You must be logged in to the server (Unauthorized)\n"},
		"internal error": {fail(apierrors.NewInternalError(errors.New("no"))), "Error from server (InternalError): Internal error occurred: no\n"},
		"no reason":      {fail(&apierrors.StatusError{ErrStatus: metav1.Status{Status: "Failure", Code: 418, Message: "teapot\x1b[31m"}}), "Error from server: teapot\\u001b[31m\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Handle(test.hook)
			for _, args := range [][]string{{"list"}, {"delete", "abcdef"}, {"delete", "--all", "--yes"}, {"extend", "abcdef", "--ttl", "1h"}} {
				got := c.run(t, args...)
				if got.code != 1 || got.out != "" || !strings.HasPrefix(got.stderr, test.want) {
					t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, got.code, got.out, got.stderr)
				}
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		c := newCluster(t)
		c.Close()
		host := strings.TrimPrefix(c.URL, "https://")
		for _, args := range [][]string{{"list"}, {"create"}, {"delete", "abcdef"}} {
			c.run(t, args...).wants(t, 1, "", "The connection to the server "+host+" was refused - did you specify the right host or port?\n")
		}
	})
	t.Run("another CA", func(t *testing.T) {
		c := newCluster(t)
		got := c.run(t, "list", "--certificate-authority", "../token/testdata/single.pem")
		got.wants(t, 1, "", "Unable to connect to the server: ")
		if !strings.Contains(got.stderr, "x509: ") {
			t.Errorf("stderr %q", got.stderr)
		}
	})
	t.Run("no such context", func(t *testing.T) {
		newCluster(t).run(t, "list", "--context", "nowhere").wants(t, 1, "", `error: context "nowhere" does not exist`)
	})
}
