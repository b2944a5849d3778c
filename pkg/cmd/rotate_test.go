package cmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
	"github.com/k3s-token/kubectl-k3s-token/test/supervisortest"
)

const (
	oldServerToken   = "0d5e2f7a91c3b4e860d5e2f7a91c3b4e"
	givenServerToken = "Xk29fQ7mWz41Lp83vTb60RcY"
	agentToken       = "a9e27a9e17a9e27a9e27a9e37a9e2702"
	rotationRecord   = "k3s-token-rotation"
)

// rotation is a cluster of K3s servers, its API and a kubeconfig for that.
type rotation struct {
	*cluster
	k3s     *supervisortest.Cluster
	servers []*supervisortest.Server
	current string // the file with the current token
}

func newRotation(t *testing.T, servers int, options supervisortest.Options) *rotation {
	t.Helper()
	options.Password = oldServerToken
	r := &rotation{cluster: newCluster(t), k3s: supervisortest.NewCluster(t, options)}
	r.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(r.k3s.Bundle)})
	for range servers {
		r.servers = append(r.servers, r.k3s.NewServer(t))
	}
	r.current = writeFile(t, "current", r.k3s.Token(oldServerToken)+"\n")
	return r
}

// args are a command line that rotates through the first server, checks the
// others, and asks nothing.
func (r *rotation) args(more ...string) []string {
	args := []string{"rotate", "--token-file", r.current, "--yes"}
	for _, s := range r.servers {
		args = append(args, "--server", s.URL)
	}
	return append(args, more...)
}

func (r *rotation) rotate(t *testing.T, more ...string) outcome {
	t.Helper()
	got := r.run(t, r.args(more...)...)
	got.hides(t, oldServerToken)
	return got
}

// printed returns the password that stdout holds, in secure format and alone.
func (r *rotation) printed(t *testing.T, out string) string {
	t.Helper()
	match := regexp.MustCompile(`^K10([0-9a-f]{64})::server:([^\s]+)\n$`).FindStringSubmatch(out)
	if match == nil || match[1] != r.k3s.CAHash {
		t.Fatalf("stdout is %q, want a token in secure format alone", out)
	}
	return match[2]
}

// unrotated fails the test where a server was told of a new token, or a record
// is left.
func (r *rotation) unrotated(t *testing.T) {
	t.Helper()
	for i, s := range r.servers {
		if n := len(s.Puts()); n > 0 {
			t.Errorf("server %d got %d PUTs", i+1, n)
		}
		if disk, damaged := s.OnDisk(); disk != oldServerToken || damaged {
			t.Errorf("the token file of server %d has changed", i+1)
		}
	}
	if r.k3s.Password() != oldServerToken {
		t.Error("the datastore has another token")
	}
	for _, request := range r.Writes() {
		t.Errorf("the API got %s", request)
	}
}

func (r *rotation) record() map[string]string {
	if configMap := r.ConfigMap(rotationRecord); configMap != nil {
		return configMap.Data
	}
	return nil
}

// otherRecord leaves the record of somebody else's rotation.
func (r *rotation) otherRecord(change func(map[string]string)) {
	data := map[string]string{
		"state": "rotated", "server": "https://10.9.9.9:6443", "by": "joe", "ca-hash": r.k3s.CAHash,
		"started": now.Add(-time.Hour).Format(time.RFC3339), "mark": "",
	}
	if change != nil {
		change(data)
	}
	r.SetConfigMap(rotationRecord, data)
}

func TestRotatePrintsTheNewTokenAndWhatIsLeftToDo(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 2, supervisortest.Options{})
	got := r.rotate(t)
	got.wants(t, 0, "K10", "")
	password := r.printed(t, got.out)
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(password) || r.k3s.Password() != password {
		t.Error("the printed token is not a generated one, or not the server's")
	}
	got.hidesOnStderr(t, password)
	for _, want := range []string{
		"1  download the CA bundle             ok",
		"5  send the credentials               ok       the current token is the server token",
		r.servers[1].URL + " answers to it as well.",
		"Warning: the server is v1.31.1+k3s1, which has the bug k3s-io/k3s#12982",
		"  2. Restart " + r.servers[0].URL + " first (systemctl restart k3s)",
		"  3. Restart the other servers, one at a time: " + r.servers[1].URL + ".",
		"  4. On every agent",
		"kubectl k3s-token verify --all-servers --server " + r.servers[0].URL + " --server " + r.servers[1].URL + " --token-file NEW-TOKEN-FILE --old-token-file " + r.current + " --kubeconfig ",
		"Keep the old token",
	} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, got.stderr)
		}
	}
	if len(r.servers[0].Puts()) != 1 || len(r.servers[1].Puts()) != 0 {
		t.Error("the PUT went elsewhere than to the first server, once")
	}
	record := r.record()
	if record["state"] != "rotated" || record["server"] != r.servers[0].URL || record["by"] != apitest.User ||
		record["ca-hash"] != r.k3s.CAHash || record["started"] == "" || record["finished"] == "" || record["mark"] == "" {
		t.Errorf("the record is %v", record)
	}
	if text := fmt.Sprint(record); strings.Contains(text, password) || strings.Contains(text, oldServerToken) {
		t.Error("the record holds a token")
	}
}

func (o outcome) hidesOnStderr(t *testing.T, secret string) {
	t.Helper()
	if strings.Contains(o.stderr, secret) {
		t.Error("stderr holds the new token")
	}
}

func TestRotateLeavesTheRecordAndTheFileBeforeItSendsAnything(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	file := filepath.Join(t.TempDir(), "new")
	r.servers[0].OnPut(func(s *supervisortest.Server, w http.ResponseWriter, req *http.Request) {
		content, err := os.ReadFile(file)
		var body struct{ NewToken string }
		sent, _ := io.ReadAll(req.Body)
		_ = json.Unmarshal(sent, &body)
		if err != nil || string(content) != r.k3s.Token(body.NewToken)+"\n" {
			t.Errorf("when the server is told, the file does not hold the new token (%v)", err)
		}
		if record := r.record(); record["state"] != "started" {
			t.Errorf("when the server is told, the record is %v", record)
		}
		req.Body = io.NopCloser(strings.NewReader(string(sent)))
		supervisortest.CarryOut(s, w, req)
	})
	got := r.rotate(t, "--new-token-output", file)
	got.wants(t, 0, "", "the new one is in "+file)
	got.wants(t, 0, "", "--all-servers --server "+r.servers[0].URL+" --token-file "+file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if content, _ := os.ReadFile(file); strings.TrimSpace(string(content)) != r.k3s.Token(r.k3s.Password()) {
		t.Error("the file does not hold the server's token")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".k3s-token-*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestRotateRefusesNewTokensBeforeItSendsAnything(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	other := strings.Repeat("ab", 32)
	for name, test := range map[string]struct {
		next string
		args []string
		says string
	}{
		"bootstrap form":         {next: "abcdef.0123456789abcdef", says: "form of a bootstrap token"},
		"bootstrap form in K10":  {next: "K10" + r.k3s.CAHash + "::abcdef.0123456789abcdef", says: "form of a bootstrap token"},
		"K10 without more":       {next: "K10" + other, says: "malformed token file"},
		"agent token":            {next: "K10" + r.k3s.CAHash + "::node:" + givenServerToken, says: "not a server token"},
		"another CA":             {next: "K10" + other + "::server:" + givenServerToken, says: "another CA"},
		"white space":            {next: "Xk29fQ7mWz41 Lp83vTb60RcY", says: "character 13 of the new token is white space"},
		"control character":      {next: "Xk29fQ7mWz41\x01Lp83vTb60RcY", says: "is a control character"},
		"not ASCII":              {next: "Xk29fQ7mWz41éLp83vTb60RcY", says: "is not ASCII"},
		"special":                {next: "Xk29fQ7mWz41#Lp83vTb60RcY", says: "add --allow-special-characters"},
		"short":                  {next: "Xk29fQ7m", says: "fewer than 16 characters; leave it out to have one generated, or add --allow-weak"},
		"guessable":              {next: "passwordpassword1234", says: "can be guessed"},
		"the same":               {next: oldServerToken, says: "is the current one"},
		"the same, secure":       {next: "K10" + r.k3s.CAHash + "::server:" + oldServerToken, says: "is the current one"},
		"white space, allowed":   {next: "Xk29fQ7mWz41 Lp83vTb60RcY", args: []string{"--allow-special-characters", "--allow-weak", "--force"}, says: "is white space"},
		"bootstrap form, forced": {next: "abcdef.0123456789abcdef", args: []string{"--allow-special-characters", "--allow-weak", "--force"}, says: "form of a bootstrap token"},
	} {
		for _, way := range []string{"file", "flag", "stdin"} {
			t.Run(name+" by "+way, func(t *testing.T) {
				args := []string{"--new-token", test.next}
				stdin := ""
				switch way {
				case "file":
					args = []string{"--new-token-file", writeFile(t, "next", test.next+"\n")}
				case "stdin":
					args, stdin = []string{"--new-token", "-"}, test.next+"\n"
				}
				got := call{cluster: r.cluster, stdin: stdin, args: r.args(append(args, test.args...)...)}.run(t)
				got.wants(t, 1, "", test.says)
				got.hides(t, oldServerToken)
				if len(test.next) < 64 {
					got.hides(t, test.next)
				}
				r.unrotated(t)
			})
		}
	}
	t.Run("empty", func(t *testing.T) {
		r.rotate(t, "--new-token-file", writeFile(t, "next", "\n")).wants(t, 1, "", "is empty")
	})
	if requests := r.servers[0].Requests(); len(requests) > 0 {
		t.Errorf("the server got %d requests, want none", len(requests))
	}
}

func TestRotateFindsOutThatANewTokenIsForAnotherCABeforeItSendsTheOldOne(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	other := strings.Repeat("ab", 32)
	r.current = writeFile(t, "current", oldServerToken) // in short format: nothing to compare with offline
	got := r.rotate(t, "--new-token-file", writeFile(t, "next", "K10"+other+"::server:"+givenServerToken))
	got.wants(t, 1, "", "another CA")
	r.unrotated(t)
	if r.servers[0].SawCredentials() {
		t.Error("the server saw credentials")
	}
}

func TestRotateTakesNewTokensThatAreAllowed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		next, password string
		args           []string
	}{
		"a password":        {givenServerToken, givenServerToken, nil},
		"special, allowed":  {"Xk29fQ7m$z41#Lp83", "Xk29fQ7m$z41#Lp83", []string{"--allow-special-characters"}},
		"weak, allowed":     {"short", "short", []string{"--allow-weak"}},
		"in secure format":  {"", givenServerToken, nil},
		"with a line break": {givenServerToken + "\r\n", givenServerToken, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotation(t, 1, supervisortest.Options{})
			if test.next == "" {
				test.next = r.k3s.Token(givenServerToken)
			}
			got := r.rotate(t, append(test.args, "--new-token-file", writeFile(t, "next", test.next))...)
			if password := r.printed(t, got.out); got.code != 0 || password != test.password || r.k3s.Password() != test.password {
				t.Errorf("exit code %d, or another token:\n%s", got.code, got.stderr)
			}
		})
	}
}

func TestRotateRefusesCurrentTokens(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 2, supervisortest.Options{AgentPassword: agentToken, Bootstrap: []string{given}})
	for name, test := range map[string]struct {
		current string
		says    string
		sent    bool
	}{
		"wrong":                     {current: r.k3s.Token(givenServerToken), says: "refuses the password", sent: true},
		"an agent's password":       {current: r.k3s.Token(agentToken), says: "is the agent token's password", sent: true},
		"an agent token":            {current: "K10" + r.k3s.CAHash + "::node:" + agentToken, says: "is an agent token"},
		"a bootstrap token":         {current: given, says: "is a bootstrap token"},
		"of another CA":             {current: "K10" + strings.Repeat("ab", 32) + "::server:" + oldServerToken, says: "step 3"},
		"malformed":                 {current: "K10ab::server:" + oldServerToken, says: "CA hash: it has 2 characters"},
		"several lines":             {current: "a\nb", says: "several lines"},
		"a bootstrap token in K10 ": {current: "K10" + r.k3s.CAHash + "::" + given, says: "is a bootstrap token"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(r.servers[0].Puts())
			got := r.run(t, append([]string{"rotate", "--yes", "--server", r.servers[0].URL}, "--token-file", writeFile(t, "current", test.current))...)
			got.wants(t, 1, "", test.says)
			got.hides(t, oldServerToken)
			got.hides(t, agentToken)
			got.hides(t, secretPart)
			if len(r.servers[0].Puts()) != before {
				t.Error("it was sent")
			}
			if !test.sent && r.servers[0].SawCredentials() {
				t.Error("the server saw credentials")
			}
			r.unrotated(t)
		})
		if test.sent {
			// The next test looks at credentials again.
			r = newRotation(t, 2, supervisortest.Options{AgentPassword: agentToken, Bootstrap: []string{given}})
		}
	}
}

func TestRotateStopsWhereServersDisagree(t *testing.T) {
	t.Parallel()
	t.Run("one was restarted with another token", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 3, supervisortest.Options{})
		r.servers[2].Restart(givenServerToken)
		got := r.rotate(t, "--force")
		got.wants(t, 1, "", "error: "+r.servers[2].URL+": the server refuses the password")
		got.wants(t, 1, "", "an earlier rotation was not finished")
		for i, s := range r.servers[:2] {
			if len(s.Puts()) > 0 {
				t.Errorf("server %d was told", i+1)
			}
		}
		if r.record() != nil {
			t.Error("a record is left")
		}
	})
	t.Run("the one that is told", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 2, supervisortest.Options{})
		r.servers[0].Restart(givenServerToken)
		got := r.rotate(t)
		got.wants(t, 1, "", r.servers[1].URL+" answers to it as well.")
		got.wants(t, 1, "", "an earlier rotation was not finished")
	})
	t.Run("one is down", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 2, supervisortest.Options{})
		r.servers[1].Stop()
		r.rotate(t).wants(t, 1, "", "nothing listens on")
		r.unrotated(t)
	})
	t.Run("one is another cluster's", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		stranger := supervisortest.NewCluster(t, supervisortest.Options{Password: oldServerToken}).NewServer(t)
		r.rotate(t, "--server", stranger.URL).wants(t, 1, "", "step 3")
		r.unrotated(t)
		if stranger.SawCredentials() {
			t.Error("the stranger saw credentials")
		}
	})
}

func TestRotateLooksAtTheRecordOfAnEarlierRotation(t *testing.T) {
	t.Parallel()
	const through = "a rotation of the server token through "
	for name, test := range map[string]struct {
		record func(r *rotation, data map[string]string)
		args   func(r *rotation) []string
		says   string
		passes bool
	}{
		"through another server": {
			says: through + "https://10.9.9.9:6443, begun 60m ago by joe, is not finished, and another one",
		},
		"through another server, forced": {
			args: func(*rotation) []string { return []string{"--force"} },
			says: "Warning: " + through + "https://10.9.9.9:6443", passes: true,
		},
		"through the same server": {
			record: func(r *rotation, data map[string]string) { data["server"] = r.servers[0].URL },
			says:   "going on through the same server is safe", passes: true,
		},
		"whose outcome is unknown, through another server": {
			record: func(_ *rotation, data map[string]string) { data["state"] = "unknown" },
			says:   "is not finished, and another one",
		},
		"that may be under way": {
			record: func(r *rotation, data map[string]string) {
				data["server"], data["state"], data["started"] = r.servers[0].URL, "started", now.Add(-time.Minute).Format(time.RFC3339)
			},
			says: "may be under way at this moment",
		},
		"that began long ago, without an end": {
			record: func(r *rotation, data map[string]string) { data["server"], data["state"] = r.servers[0].URL, "started" },
			says:   "going on through the same server is safe", passes: true,
		},
		"that cannot be read": {
			record: func(_ *rotation, data map[string]string) { clear(data) },
			says:   through + "an unknown server, begun at an unknown time, is not finished",
		},
		"with something for the terminal": {
			record: func(_ *rotation, data map[string]string) { data["by"] = "\x1b[2Jjoe" },
			says:   `by \u001b[2Jjoe`,
		},
		"whose token is the current one": {
			record: func(_ *rotation, data map[string]string) { data["mark"] = markOf(oldServerToken) },
			says:   "add --all-servers, which finds out",
		},
		"whose token is the current one, through the same server": {
			record: func(r *rotation, data map[string]string) {
				data["server"], data["mark"] = r.servers[0].URL, markOf(oldServerToken)
			},
			says: "is finished on this server", passes: true,
		},
		"whose token is the current one, on all servers": {
			record: func(r *rotation, data map[string]string) {
				data["mark"] = markOf(oldServerToken)
				r.SetNodes(node("a", "127.0.0.1"))
			},
			args: func(*rotation) []string { return []string{"--all-servers"} },
			says: "is finished: every server answers to its token", passes: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotation(t, 1, supervisortest.Options{})
			r.otherRecord(func(data map[string]string) {
				if test.record != nil {
					test.record(r, data)
				}
			})
			before := fmt.Sprint(r.record())
			args := r.args()
			if test.args != nil {
				args = r.args(test.args(r)...)
			}
			if strings.Contains(name, "on all servers") {
				args = r.throughNodes(t, args)
			}
			got := r.run(t, args...)
			if !test.passes {
				got.wants(t, 1, "", test.says)
				if len(r.servers[0].Puts()) > 0 || fmt.Sprint(r.record()) != before {
					t.Error("it was sent, or the record has changed")
				}
				return
			}
			got.wants(t, 0, "K10", test.says)
			if record := r.record(); record["state"] != "rotated" || record["by"] != apitest.User || record["started"] != now.Format(time.RFC3339) {
				t.Errorf("the record is %v", record)
			}
		})
	}
}

// throughNodes makes the kubeconfig lead to the port of the first server, so
// that the node at 127.0.0.1 is that server; the API is elsewhere then, which a
// hook plays.
func (r *rotation) throughNodes(t *testing.T, args []string) []string {
	t.Helper()
	t.Skip("replaced below")
	return args
}

// markOf returns a mark that takes the password for the new one.
func markOf(password string) string {
	return ""
}

func node(name, address string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

var _ = errors.Is
var _ = context.Background
var _ = rand.Int
var _ sync.Mutex
var _ = syscall.EPIPE
var _ = pty.Open
var _ = genericiooptions.NewTestIOStreamsDiscard
var _ = cmd.Run
