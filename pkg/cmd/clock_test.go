package cmd_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
)

const day = 24 * time.Hour

// skewed returns a cluster whose clock is right, and a command line of a
// machine whose clock is not, by that much.
func skewed(t *testing.T, wrong time.Duration, args ...string) (*cluster, call) {
	t.Helper()
	c := newCluster(t)
	c.SetClock(func() time.Time { return now })
	return c, call{cluster: c, now: func() time.Time { return now.Add(wrong) }, args: args}
}

// warnings are what a machine is told of its clock, by how wrong it is.
var warnings = map[time.Duration]string{
	day:                         "Warning: this machine's clock is 1d ahead of the server's: expiry is judged by the server's\n",
	-day:                        "Warning: this machine's clock is 1d behind the server's: expiry is judged by the server's\n",
	-90 * time.Second:           "Warning: this machine's clock is 2m behind the server's: expiry is judged by the server's\n",
	30 * time.Second:            "",
	0:                           "",
	400 * 24 * 60 * time.Minute: "Warning: this machine's clock is 1y ahead of the server's: expiry is judged by the server's\n",
}

func TestCreateCountsFromTheServersTime(t *testing.T) {
	for wrong, warning := range warnings {
		for name, args := range map[string][]string{
			"as usual":                         {"create", given, "--ttl", "2h"},
			"where nothing need be asked else": {"create", given, "--ttl", "2h", "--token-format", "short", "--groups", defaultGroup},
			"with a CA file":                   {"create", given, "--ttl", "2h", "--ca-file", "../token/testdata/single.pem", "--groups", defaultGroup},
		} {
			c, call := skewed(t, wrong, args...)
			got := call.run(t)
			if got.code != 0 || got.stderr != warning {
				t.Errorf("%v %s: exit code %d, stderr %q, want %q", wrong, name, got.code, mask(got.stderr), warning)
			}
			want := now.Add(2 * time.Hour)
			if warning == "" {
				want = want.Add(wrong)
			}
			expires, err := time.Parse(time.RFC3339, string(c.Secret("bootstrap-token-abcdef").Data["expiration"]))
			// The Date has whole seconds, and an end is rounded up to one.
			if err != nil || expires.Before(want) || expires.After(want.Add(2*time.Second)) {
				t.Errorf("%v %s: the token ends at %v (%v), want %v", wrong, name, expires, err, want)
			}
		}
	}
}

func TestWhatIsPastTheServerDecides(t *testing.T) {
	// An hour from now by the one clock, an hour ago by the other.
	for _, test := range []struct {
		wrong time.Duration
		end   time.Time
		code  int
		says  string
	}{
		{2 * time.Hour, now.Add(time.Hour), 0, "2h ahead of"},
		{-2 * time.Hour, now.Add(-time.Hour), 1, "is in the past"},
	} {
		for _, verb := range []string{"create", "extend"} {
			c, call := skewed(t, test.wrong, verb, "abcdef", "--expires-at", test.end.Format(time.RFC3339))
			if verb == "create" {
				call.args[1] = given
			} else {
				c.put("abcdef", nil)
			}
			got := call.run(t)
			if got.code != test.code || !strings.Contains(got.stderr, test.says) {
				t.Errorf("%s until %v: exit code %d, stderr %q", verb, test.end, got.code, mask(got.stderr))
			}
			if writes := c.Writes(); len(writes) != 1-test.code {
				t.Errorf("%s until %v: requests %v", verb, test.end, writes)
			}
		}
	}
}

func TestExtendCountsFromTheServersTime(t *testing.T) {
	for wrong, warning := range warnings {
		for _, dryRun := range []string{"none", "client", "server"} {
			c, call := skewed(t, wrong, "extend", "abcdef", "ghijkl", "--ttl", "2h", "--dry-run", dryRun, "-o", `jsonpath={.items[*].expires} {.items[*].status}`)
			c.put("abcdef", nil)
			c.put("ghijkl", nil)
			got := call.run(t)
			want := now.Add(2*time.Hour + time.Second)
			if warning == "" {
				want = now.Add(2*time.Hour + wrong)
			}
			end := want.Format(time.RFC3339)
			if got.code != 0 || got.out != end+" "+end+" Active Active" || got.stderr != warning {
				t.Errorf("%v, dry run %s: exit code %d, stdout %q, want %s; stderr %q", wrong, dryRun, got.code, got.out, end, got.stderr)
			}
		}
	}
}

func TestListJudgesByTheServersTime(t *testing.T) {
	for wrong, warning := range warnings {
		c, call := skewed(t, wrong, "list", "-o", "wide")
		c.put("abcdef", func(s *corev1.Secret) { s.Data["expiration"] = []byte(now.Add(time.Hour).Format(time.RFC3339)) })
		c.put("ghijkl", func(s *corev1.Secret) { s.Data["expiration"] = []byte(now.Add(-time.Hour).Format(time.RFC3339)) })
		got := call.run(t)
		if got.code != 0 || got.stderr != warning {
			t.Errorf("%v: exit code %d, stderr %q, want %q", wrong, got.code, got.stderr, warning)
		}
		for id, want := range map[string]string{"abcdef": "Active", "ghijkl": "Expired"} {
			if line := lineOf(got.out, id); !strings.Contains(line, want) {
				t.Errorf("%v: %s, want it to be %s", wrong, line, want)
			}
		}
	}
}

func lineOf(text, id string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, id) {
			return line
		}
	}
	return "no line of " + id
}

// A clock that is ahead must not make the plugin delete tokens that are good.
func TestDeleteExpiredJudgesByTheServersTime(t *testing.T) {
	for wrong, warning := range warnings {
		c, call := skewed(t, wrong, "delete", "--expired")
		c.put("abcdef", nil) // for another hour
		c.put("ghijkl", func(s *corev1.Secret) { s.Data["expiration"] = []byte(now.Add(-time.Hour).Format(time.RFC3339)) })
		got := call.run(t)
		if got.code != 0 || got.stderr != warning || got.out != "bootstrap token \"ghijkl\" deleted\n" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", wrong, got.code, got.out, got.stderr)
		}
		c.holds(t, "abcdef")
	}
}

// Who judges no expiry is told nothing of clocks, and TAB shows no warnings.
func TestAWrongClockThatDoesNotMatterIsNotSpokenOf(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"delete", "abcdef"}, {"delete", "--all", "--yes"}} {
		c, call := skewed(t, -day, args...)
		c.put("abcdef", nil)
		if got := call.run(t); got.code != 0 || strings.Contains(got.stderr, "clock") {
			t.Errorf("%v: exit code %d, stderr %q", args, got.code, got.stderr)
		}
	}
	c, call := skewed(t, -day)
	c.put("abcdef", nil)
	call.cluster, call.args = nil, []string{"__complete", "delete", "--kubeconfig", c.kubeconfig, ""}
	if got := call.run(t); !strings.HasPrefix(got.out, "abcdef\t59m, ") || strings.Contains(got.stderr, "clock") {
		t.Errorf("completion goes by the wrong clock, or speaks of it: %q, %q", got.out, got.stderr)
	}
}

func TestTheServersTimeCostsNoRequest(t *testing.T) {
	c, call := skewed(t, day, "create", given)
	call.run(t)
	if requests := c.Requests(); len(requests) != 3 {
		t.Errorf("requests %v, want those for version, CA and Secret", requests)
	}
}

// A proxy's answer, or an error's, tells the time as well.
func TestAnErrorTellsTheTimeToo(t *testing.T) {
	c, call := skewed(t, day, "create", given, "--groups", defaultGroup, "--ca-file", "../token/testdata/single.pem", "--ttl", "2h")
	c.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Path == "/version" {
			http.Error(w, "no", http.StatusForbidden)
			return true
		}
		return false
	})
	if got := call.run(t); got.code != 0 || got.stderr != warnings[day] {
		t.Errorf("exit code %d, stderr %q", got.code, mask(got.stderr))
	}
}
