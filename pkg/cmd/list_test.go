package cmd_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

func set(keysAndValues ...string) func(*corev1.Secret) {
	return func(secret *corev1.Secret) {
		for i := 0; i < len(keysAndValues); i += 2 {
			secret.Data[keysAndValues[i]] = []byte(keysAndValues[i+1])
		}
	}
}

func without(keys ...string) func(*corev1.Secret) {
	return func(secret *corev1.Secret) {
		for _, key := range keys {
			delete(secret.Data, key)
		}
	}
}

// zoo is a cluster with a token of each kind.
func zoo(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t)
	c.put("active", set("description", "rack 7"))
	c.put("foreve", func(s *corev1.Secret) {
		without("expiration", "auth-extra-groups", "usage-bootstrap-signing")(s)
		s.CreationTimestamp = metav1.NewTime(now.Add(-48 * time.Hour))
	})
	c.put("expire", set("expiration", now.Add(-time.Hour).Format(time.RFC3339)))
	c.put("nosecr", without("token-secret"))
	c.put("badend", set("expiration", "tomorrow"))
	c.put("opaque", func(s *corev1.Secret) { s.Type = "Opaque" })
	return c
}

// TestTheListNamesEachTokenAsDeleteTakesIt has a stale Secret whose name is the
// id of a good token.
func TestTheListNamesEachTokenAsDeleteTakesIt(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", nil)
	c.put("ghijkl", func(s *corev1.Secret) { s.Name = "abcdef" })
	got := c.run(t, "list", "-o", `jsonpath={range .items[?(@.status=="Invalid")]}{.id}{end}`)
	if got.code != 0 || got.out != "secret/abcdef" {
		t.Fatalf("exit code %d, stdout %q", got.code, got.out)
	}
	call{cluster: c, stdin: got.out, args: []string{"delete", "-"}}.run(t).wants(t, 0, `"secret/abcdef" deleted`, "")
	c.holds(t, "abcdef")
}

func TestListTable(t *testing.T) {
	const (
		table = `
TOKEN    TTL         EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS
expire   <expired>   2025-06-01T11:00:00Z   authentication,signing   <none>        system:bootstrappers:k3s:default-node-token
active   1h          2025-06-01T13:00:00Z   authentication,signing   rack 7        system:bootstrappers:k3s:default-node-token
nosecr   <invalid>   2025-06-01T13:00:00Z   authentication,signing   <none>        system:bootstrappers:k3s:default-node-token
badend   <invalid>   <invalid>              authentication,signing   <none>        system:bootstrappers:k3s:default-node-token
foreve   <forever>   <never>                authentication           <none>        <none>
`
		warnings = `Warning: secret/bootstrap-token-nosecr is no valid bootstrap token: token-secret is missing
Warning: secret/bootstrap-token-badend is no valid bootstrap token: expiration is not a time in RFC 3339, such as 2030-01-31T12:00:00Z
`
	)
	got := zoo(t).run(t, "list")
	if got.code != 0 || got.out != table[1:] || got.stderr != warnings {
		t.Errorf("exit code %d\n%s%s\nwant\n%s%s", got.code, got.out, got.stderr, table, warnings)
	}
}

func TestListWide(t *testing.T) {
	got := zoo(t).run(t, "list", "-o", "wide", "--sort-by", "id", "--no-headers")
	want := map[string][]string{
		"active": {"Active", "24h"}, "foreve": {"Active", "2d"}, "expire": {"Expired", "24h"},
		"nosecr": {"Invalid: token-secret is missing", "24h"},
	}
	for line := range strings.Lines(got.out) {
		columns := strings.Split(strings.TrimSpace(line), "   ")
		if w, ok := want[columns[0]]; ok {
			delete(want, columns[0])
			if !strings.Contains(line, "   "+w[0]+"   ") || strings.TrimSpace(columns[len(columns)-1]) != w[1] {
				t.Errorf("%q lacks %q", line, w)
			}
		}
	}
	if len(want) > 0 || strings.Contains(got.out, "TOKEN") {
		t.Errorf("stdout is\n%s", got.out)
	}
}

func TestListOrders(t *testing.T) {
	for sortBy, want := range map[string]string{
		"expires":     "expire active nosecr badend foreve",
		"id":          "active badend expire foreve nosecr",
		"description": "badend expire foreve nosecr active",
		"age":         "active badend expire nosecr foreve",
	} {
		got := zoo(t).run(t, "list", "--sort-by", sortBy, "-o", "jsonpath={.items[*].id}")
		if got.out != want {
			t.Errorf("by %s: %s, want %s", sortBy, got.out, want)
		}
	}
}

func TestListFormats(t *testing.T) {
	c := zoo(t)
	for format, want := range map[string]string{
		"name": "secret/bootstrap-token-expire\nsecret/bootstrap-token-active\nsecret/bootstrap-token-nosecr\nsecret/bootstrap-token-badend\nsecret/bootstrap-token-foreve\n",
		"go-template={{range .items}}{{.id}}={{.status}} {{end}}": "expire=Expired active=Active nosecr=Invalid badend=Invalid foreve=Active ",
	} {
		if got := c.run(t, "list", "-o", format); got.code != 0 || got.out != want {
			t.Errorf("%s: exit code %d, stdout %q", format, got.code, got.out)
		}
	}
	for _, format := range []string{"json", "yaml", "kyaml"} {
		var list struct {
			APIVersion, Kind string
			Items            []map[string]any
		}
		got := c.run(t, "list", "-o", format)
		if err := yaml.Unmarshal([]byte(got.out), &list); err != nil || list.Kind != "BootstrapTokenList" || list.APIVersion != "k3s-token.io/v1alpha1" || len(list.Items) != 5 {
			t.Fatalf("%s: %v: %s", format, err, got.out)
		}
		active, _ := json.Marshal(list.Items[1])
		want := `{"apiVersion":"k3s-token.io/v1alpha1","description":"rack 7","expires":"2025-06-01T13:00:00Z","groups":["` + defaultGroup + `"],"id":"active","kind":"BootstrapToken","metadata":{"creationTimestamp":"2025-05-31T12:00:00Z","name":"bootstrap-token-active","namespace":"kube-system"},"status":"Active","usages":["authentication","signing"]}`
		if string(active) != want {
			t.Errorf("%s: %s\nwant %s", format, active, want)
		}
		if problem := fmt.Sprint(list.Items[2]["problem"]); problem != "token-secret is missing" {
			t.Errorf("%s: problem %q", format, problem)
		}
	}
}

func TestListNeverShowsASecret(t *testing.T) {
	c := zoo(t)
	for _, format := range []string{"", "wide", "text", "json", "yaml", "kyaml", "name", "jsonpath={}", "jsonpath={..*}", "jsonpath-as-json={}", "go-template={{.}}", "go-template={{printf \"%#v\" .}}", "go-template={{index .items 99}}", "jsonpath={.items[99]}"} {
		c.run(t, "list", "-o", format).hides(t, secretPart)
	}
	c.run(t, "list", "--expired").hides(t, secretPart)
}

func TestListExpired(t *testing.T) {
	c := zoo(t)
	c.run(t, "list", "--expired", "-o", "name").wants(t, 0, "secret/bootstrap-token-expire\n", "")
	if got := c.run(t, "list", "--expired", "-o", "name"); strings.Count(got.out, "\n") != 1 {
		t.Errorf("stdout is %q", got.out)
	}
}

func TestListOfNothing(t *testing.T) {
	c := newCluster(t)
	c.run(t, "list").wants(t, 0, "", "No bootstrap tokens found.\n")
	c.run(t, "list", "--expired").wants(t, 0, "", "No bootstrap tokens found.\n")
	got := c.run(t, "list", "-o", "json")
	got.wants(t, 0, `"items": []`, "No bootstrap tokens found.\n")
	if got := c.run(t, "list", "-o", "name"); got.out != "" {
		t.Errorf("stdout is %q", got.out)
	}
}

func TestListAsksInChunks(t *testing.T) {
	c := newCluster(t)
	for i := range 5 {
		c.put(fmt.Sprintf("id000%d", i), nil)
	}
	c.run(t, "list", "--chunk-size", "2").wants(t, 0, "id0004", "")
	if n := len(c.Requests()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	c.run(t, "list", "--chunk-size", "-1").wants(t, 1, "", "error: --chunk-size takes 0 or more")
	c.run(t, "list", "--sort-by", "color").wants(t, 1, "", "it takes expires, id, description, age")
	c.run(t, "list", "-o", "xml").wants(t, 1, "", `unknown output format "xml"`)
	if n := len(c.Requests()); n != 3 {
		t.Error("the cluster is asked before the command line is checked")
	}
}

func TestListEscapesWhatWouldSteerATerminal(t *testing.T) {
	c := newCluster(t)
	c.put("abcdef", set("description", "a\x1b[31m\nb\u202ec\u009bd\xffe\tf"))
	got := c.run(t, "list")
	if want := `a\u001b[31m\nb\u202ec\u009bd\xffe\tf`; !strings.Contains(got.out, want) || strings.Count(got.out, "\n") != 2 {
		t.Errorf("stdout %q, want %q in it", got.out, want)
	}
	// A program gets the text as it is.
	if got := c.run(t, "list", "-o", "jsonpath={.items[0].description}"); got.out != "a\x1b[31m\nb\u202ec\u009bd\xffe\tf" && !strings.HasPrefix(got.out, "a\x1b[31m\nb\u202ec\u009bd") {
		t.Errorf("stdout %q", got.out)
	}
}

func TestListEndsQuietlyWhereItsReaderHasSeenEnough(t *testing.T) {
	c := zoo(t)
	call{cluster: c, args: []string{"list"}, stdout: brokenWriter{syscall.EPIPE}}.run(t).wants(t, 1, "", "")
	call{cluster: c, args: []string{"list"}, stdout: brokenWriter{syscall.ENOSPC}}.run(t).wants(t, 1, "", "error: standard output: no space left on device\n")
}

func TestAnInterruptEndsList(t *testing.T) {
	c := newCluster(t)
	ctx, interrupt := interruptible(t)
	c.Handle(func(_ http.ResponseWriter, r *http.Request, _ apitest.Request) bool {
		interrupt()
		<-r.Context().Done()
		apitest.Cut()
		return true
	})
	got := call{cluster: c, ctx: ctx, args: []string{"list"}}.run(t)
	got.wants(t, 130, "", "error: interrupted\n")
	if strings.Contains(got.stderr, "context canceled") {
		t.Errorf("stderr %q speaks of contexts", got.stderr)
	}
}

func TestWarningsOfTheServerAreShownSafely(t *testing.T) {
	c := newCluster(t)
	c.Handle(func(w http.ResponseWriter, _ *http.Request, _ apitest.Request) bool {
		w.Header().Add("Warning", `299 - "secrets are \u001b deprecated"`)
		w.Header().Add("Warning", "299 - \"second\u202e\"")
		return false
	})
	got := c.run(t, "list")
	got.wants(t, 0, "", "Warning: ")
	if strings.ContainsAny(got.stderr, "\x1b\u202e") {
		t.Errorf("stderr %q steers the terminal", got.stderr)
	}
}

// A description holds whatever its author put there, also what YAML does not
// allow as it is. One such token must not hide all others.
func TestListInEachFormatWhateverTheDescriptionHolds(t *testing.T) {
	var description strings.Builder
	for r := range rune(0x100) {
		if r != '\n' { // sigs.k8s.io/yaml/kyaml spoils other escapes in texts of several lines
			description.WriteRune(r)
		}
	}
	description.WriteString("\ufeff\ufffe\uffff\U0010ffff\u2028\u202e")
	c := newCluster(t)
	c.put("abcdef", set("description", description.String()))
	for _, format := range []string{"json", "yaml", "YAML", "kyaml"} {
		got := c.run(t, "list", "-o", format)
		got.wants(t, 0, "BootstrapTokenList", "")
		var list struct {
			Items []struct{ Description string }
		}
		read := func(data []byte, into any) error { return yaml.Unmarshal(data, into) }
		if format == "json" {
			read = json.Unmarshal
		}
		if err := read([]byte(got.out), &list); err != nil {
			t.Errorf("-o %s cannot be read: %v", format, err)
		} else if len(list.Items) != 1 || list.Items[0].Description != description.String() {
			t.Errorf("-o %s has another description: %q", format, list.Items)
		}
	}
}
