package cmd_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	clusterpkg "github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
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
	password := r.printed(t, got.out)
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(password) || r.k3s.Password() != password {
		t.Error("the printed token is not a generated one, or not the server's")
	}
	got.hidesOnStderr(t, password)
	got.has(t, 0,
		"1  download the CA bundle             ok",
		"5  send the credentials               ok       the current token is the server token",
		r.servers[1].URL+" answers to it as well.",
		"Warning: the server is v1.31.1+k3s1, which has the bug k3s-io/k3s#12982",
		"  2. Restart "+r.servers[0].URL+" first (systemctl restart k3s)",
		"  3. Restart the other servers, one at a time: "+r.servers[1].URL+".",
		"  4. On every agent",
		"kubectl k3s-token verify --all-servers --server "+r.servers[0].URL+" --server "+r.servers[1].URL+" --token-file NEW-TOKEN-FILE --old-token-file "+r.current+" --kubeconfig ",
		"Keep the old token",
	)
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

// has fails the test where the exit code is another, or stderr lacks one of the
// texts.
func (o outcome) has(t *testing.T, code int, texts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("stderr lacks %q:\n%s", text, o.stderr)
		}
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
	wantPrivate(t, file)
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
	const hash = "HASH" // stands for the cluster's
	for name, test := range map[string]struct {
		current string
		says    string
		sent    bool
	}{
		"wrong":                     {current: "K10" + hash + "::server:" + givenServerToken, says: "refuses the password", sent: true},
		"an agent's password":       {current: "K10" + hash + "::server:" + agentToken, says: "is the agent token's password", sent: true},
		"an agent token":            {current: "K10" + hash + "::node:" + agentToken, says: "is an agent token"},
		"a bootstrap token":         {current: given, says: "is a bootstrap token"},
		"of another CA":             {current: "K10" + strings.Repeat("ab", 32) + "::server:" + oldServerToken, says: "step 3"},
		"malformed":                 {current: "K10ab::server:" + oldServerToken, says: "CA hash: it has 2 characters"},
		"several lines":             {current: "a\nb", says: "several lines"},
		"a bootstrap token in K10 ": {current: "K10" + hash + "::" + given, says: "is a bootstrap token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotation(t, 2, supervisortest.Options{AgentPassword: agentToken, Bootstrap: []string{given}})
			r.current = writeFile(t, "current", strings.ReplaceAll(test.current, hash, r.k3s.CAHash))
			got := r.rotate(t)
			got.wants(t, 1, "", test.says)
			got.hides(t, agentToken)
			got.hides(t, secretPart)
			r.unrotated(t)
			if r.servers[0].SawCredentials() != test.sent {
				t.Errorf("credentials were sent: %v, want %v", !test.sent, test.sent)
			}
		})
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
			says: through + "https://10.9.9.9:6443, begun 1h ago by joe, is not finished, and another one",
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
		"whose token is the current one, on the only server": {
			record: func(r *rotation, data map[string]string) {
				data["mark"] = markOf(oldServerToken)
				r.SetNodes(node("a", "127.0.0.1"))
			},
			says: "is finished: every server answers to its token", passes: true,
		},
		"whose new token is given again": {
			record: func(r *rotation, data map[string]string) {
				data["server"], data["mark"] = r.servers[0].URL, markOf(givenServerToken)
				if markKnows(data["mark"], oldServerToken) {
					t.Error("the mark takes the old token for the new one: choose another seed")
				}
			},
			args: func(*rotation) []string { return []string{"--new-token", givenServerToken} },
			says: "This repeats " + through, passes: true,
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

// markOf returns a mark that takes the password for the new one.
func markOf(password token.Secret) string {
	mark, err := clusterpkg.NewMark(rand.NewChaCha8([32]byte{7}), "whatever it was before", password)
	if err != nil {
		panic(err)
	}
	return mark
}

func markKnows(mark string, password token.Secret) bool {
	return (&clusterpkg.Rotation{Mark: mark}).IsNew(password)
}

func node(name, address string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

func TestRotateReportsWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		puts    []supervisortest.Put
		code    int
		outcome string // in the record; empty for none
		says    []string
	}{
		"cut before, then carried out": {
			puts: []supervisortest.Put{supervisortest.CutBefore, supervisortest.CarryOut}, outcome: "rotated", says: []string{"The server token is rotated"},
		},
		"cut after, then carried out": {
			puts: []supervisortest.Put{supervisortest.CutAfter, supervisortest.CarryOut}, outcome: "rotated", says: []string{"The server token is rotated"},
		},
		"cut within the answer, always": {
			puts: []supervisortest.Put{supervisortest.CutWithin}, code: 1, outcome: "unknown",
			says: []string{"it is not known whether the server token was rotated", "Keep both tokens", "which is safe: kubectl k3s-token rotate --server https://", "--new-token-file NEW-TOKEN-FILE"},
		},
		"busy, always": {
			puts: []supervisortest.Put{supervisortest.Say(429, "")}, code: 1, says: []string{"was not rotated, and the old one holds: the server is too busy"},
		},
		"not ready, then carried out": {
			puts: []supervisortest.Put{supervisortest.Say(503, "apiserver not ready"), supervisortest.CarryOut}, outcome: "rotated", says: []string{"The server token is rotated"},
		},
		"not ready, always": {
			puts: []supervisortest.Put{supervisortest.Say(503, "apiserver not ready")}, code: 1, says: []string{"was not rotated, and the old one holds: the server is not ready"},
		},
		"refused": {
			puts: []supervisortest.Put{supervisortest.Say(403, "forbidden")}, code: 1, says: []string{"was not rotated, and the old one holds"},
		},
		"failed within the server": {
			puts: []supervisortest.Put{supervisortest.Say(500, "Internal error occurred: token error ID 01234")}, code: 1, outcome: "unknown",
			says: []string{"token error ID 01234", "Do not repeat it", "journalctl -u k3s | grep 'token error ID 01234'", "/var/lib/rancher/k3s/server/token"},
		},
		"failed within the server, without an id": {
			puts: []supervisortest.Put{supervisortest.Say(500, "")}, code: 1, outcome: "unknown", says: []string{"grep 'token error ID'"},
		},
	} {
		for _, way := range []string{"printed", "in a file", "given"} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				r := newRotation(t, 1, supervisortest.Options{})
				r.servers[0].OnPut(test.puts...)
				file := filepath.Join(t.TempDir(), "new")
				var more []string
				switch way {
				case "in a file":
					more = []string{"--new-token-output", file}
				case "given":
					more = []string{"--new-token-file", writeFile(t, "next", givenServerToken)}
				}
				got := r.rotate(t, more...)
				if got.code != test.code {
					t.Errorf("exit code %d, want %d:\n%s", got.code, test.code, got.stderr)
				}
				for _, want := range test.says {
					if way != "printed" {
						want = strings.ReplaceAll(want, "NEW-TOKEN-FILE", "")
					}
					if !strings.Contains(got.stderr, want) {
						t.Errorf("stderr lacks %q:\n%s", want, got.stderr)
					}
				}
				if state := r.record()["state"]; state != test.outcome {
					t.Errorf("the record says %q, want %q", state, test.outcome)
				}
				content, err := os.ReadFile(file)
				kept := test.outcome != ""
				switch {
				case way == "in a file" && kept:
					if got.out != "" || err != nil {
						t.Errorf("stdout %q, and the file: %v", got.out, err)
					}
					r.printed(t, string(content))
				case way == "in a file":
					if err == nil || !strings.Contains(got.stderr, file+" was removed again") {
						t.Errorf("the file is left, or its end is not told: %v\n%s", err, got.stderr)
					}
				case kept:
					if password := r.printed(t, got.out); way == "given" && password != givenServerToken {
						t.Error("another token than the given one is printed")
					}
				case got.out != "":
					t.Error("a token is printed that is not in use")
				}
			})
		}
	}
}

// TestRotateKnowsItsOwnRecord has the API write the record and lose its answer, or
// have the client ask again.
func TestRotateKnowsItsOwnRecord(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		for name, answer := range map[string]func(http.ResponseWriter){
			"comes again": func(w http.ResponseWriter) {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusServiceUnavailable)
			},
			"fails":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
			"is lost": func(http.ResponseWriter) { apitest.Cut() },
		} {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				r := newRotation(t, 1, supervisortest.Options{})
				var once sync.Once
				r.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) (spoiled bool) {
					if req.Method == method && strings.HasPrefix(req.Path, apitest.ConfigMapsPath) && !req.DryRun() {
						once.Do(func() {
							spoiled = true
							r.Serve(httptest.NewRecorder(), req)
						})
					}
					if spoiled {
						answer(w)
					}
					return spoiled
				})
				got := r.rotate(t)
				if got.code != 0 || strings.Contains(got.stderr, "somebody else") || strings.Contains(got.stderr, "does not say how it ended") {
					t.Errorf("exit code %d, stderr\n%s", got.code, got.stderr)
				}
				if next := r.printed(t, got.out); next != r.k3s.Password() {
					t.Error("the token that is printed is not the new one")
				}
				if state := r.record()["state"]; state != "rotated" {
					t.Errorf("the record says %q", state)
				}
			})
		}
	}
}

// TestRotateHandsTheTokenOverBeforeAnythingElse has the record be slow.
func TestRotateHandsTheTokenOverBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	var out buffer
	r.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodPut && !req.DryRun() && out.String() == "" {
			t.Error("the record was written before the token was handed over")
		}
		return false
	})
	if got := (call{cluster: r.cluster, stdout: &out, args: r.args()}).run(t); got.code != 0 {
		t.Errorf("exit code %d, stderr %s", got.code, got.stderr)
	}
}

func TestRotateTakesARecordBackToWhatItWas(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	r.otherRecord(func(data map[string]string) { data["server"] = r.servers[0].URL })
	r.servers[0].OnPut(supervisortest.Say(403, "forbidden"))
	r.rotate(t).wants(t, 1, "", "was not rotated")
	if record := r.record(); record["by"] != "joe" || record["state"] != "rotated" {
		t.Errorf("the record is %v", record)
	}
}

func TestRotateNoticesBeforeItSendsAnythingThatTheTokenCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	gone, reader := closedPipe(t)
	_ = reader
	got := call{cluster: r.cluster, stdout: gone, args: r.args()}.run(t)
	got.wants(t, 1, "", "could not be written out: broken pipe")
	got = call{cluster: r.cluster, stdout: closedOutput{}, args: r.args()}.run(t)
	got.wants(t, 1, "", "could not be written out: file already closed")
	got = call{cluster: r.cluster, lost: true, args: r.args()}.run(t)
	got.wants(t, 1, "", "could not be written out: standard output is closed")
	existing := writeFile(t, "existing", "precious")
	r.rotate(t, "--new-token-output", existing).wants(t, 1, "", "--new-token-output: "+existing+" exists already")
	r.rotate(t, "--new-token-output", filepath.Join(t.TempDir(), "no", "such")).wants(t, 1, "", "--new-token-output: ")
	r.rotate(t, "--new-token-output", filepath.Join(t.TempDir(), strings.Repeat("n", 300))).wants(t, 1, "", "--new-token-output: ")
	if content, _ := os.ReadFile(existing); string(content) != "precious" {
		t.Error("the file was overwritten")
	}
	if requests := r.servers[0].Requests(); len(requests) > 0 {
		t.Errorf("the server got %d requests", len(requests))
	}
	r.unrotated(t)
}

// closedPipe returns a pipe whose reader is gone.
func closedPipe(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	t.Cleanup(func() { _ = writer.Close() })
	return writer, reader
}

type closedOutput struct{}

func (closedOutput) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestRotateSavesATokenThatCannotBePrinted(t *testing.T) {
	for _, test := range []struct {
		name string
		puts []supervisortest.Put
		says string
	}{
		{"rotated", nil, "The server token is rotated"},
		{"unknown", []supervisortest.Put{supervisortest.Say(500, "")}, "Keep both tokens"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			r := newRotation(t, 1, supervisortest.Options{})
			r.servers[0].OnPut(test.puts...)
			got := call{cluster: r.cluster, stdout: brokenWriter{syscall.ENOSPC}, args: r.args()}.run(t)
			got.wants(t, 1, "", "it was saved to "+filepath.Join(dir, "k3s-new-server-token-"))
			got.wants(t, 1, "", test.says)
			got.wants(t, 1, "", "ew one is in "+dir)
			files, _ := filepath.Glob(filepath.Join(dir, "k3s-new-server-token-*"))
			if len(files) != 1 {
				t.Fatalf("found %v", files)
			}
			content, err := os.ReadFile(files[0])
			if err != nil {
				t.Error(err)
			}
			wantPrivate(t, files[0])
			got.hidesOnStderr(t, r.printed(t, string(content)))
		})
	}
	t.Run("given by the user, who has it", func(t *testing.T) {
		dir := t.TempDir()
		t.Chdir(dir)
		r := newRotation(t, 1, supervisortest.Options{})
		got := call{cluster: r.cluster, stdout: brokenWriter{syscall.ENOSPC}, args: r.args("--new-token", givenServerToken)}.run(t)
		got.wants(t, 1, "", "no space left on device")
		if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > 0 {
			t.Errorf("found %v", files)
		}
	})
}

func TestRotateInterruptedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	ctx, interrupt := interruptible(t)
	r.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodPost && req.Path == apitest.ConfigMapsPath && !req.DryRun() {
			interrupt()
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
	file := filepath.Join(t.TempDir(), "new")
	got := call{cluster: r.cluster, ctx: ctx, args: r.args("--new-token-output", file)}.run(t)
	got.wants(t, 130, "", "nothing was changed")
	if len(r.servers[0].Puts()) > 0 || r.record() != nil {
		t.Errorf("it was sent, or a record is left: %v", r.record())
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file is left")
	}
}

func TestRotateInterruptedWhileTheServerWorks(t *testing.T) {
	t.Parallel()
	t.Run("and answers soon", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		ctx, interrupt := interruptible(t)
		r.servers[0].OnPut(func(s *supervisortest.Server, w http.ResponseWriter, req *http.Request) {
			interrupt()
			time.Sleep(200 * time.Millisecond)
			supervisortest.CarryOut(s, w, req)
		})
		got := call{cluster: r.cluster, ctx: ctx, args: r.args()}.run(t)
		got.wants(t, 0, "K10", "Interrupted while the server is rotating the token")
		got.wants(t, 0, "K10", "The server token is rotated")
		if r.printed(t, got.out) != r.k3s.Password() || r.record()["state"] != "rotated" {
			t.Error("another token is printed, or the record is wrong")
		}
	})
	t.Run("and refuses", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		ctx, interrupt := interruptible(t)
		r.servers[0].OnPut(func(s *supervisortest.Server, w http.ResponseWriter, req *http.Request) {
			interrupt()
			time.Sleep(200 * time.Millisecond)
			supervisortest.Say(403, "forbidden")(s, w, req)
		})
		got := call{cluster: r.cluster, ctx: ctx, args: r.args()}.run(t)
		got.wants(t, 130, "K10", "The token that was printed is not in use: forget it.")
	})
	t.Run("and says nothing", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		ctx, interrupt := interruptible(t)
		r.servers[0].OnPut(func(s *supervisortest.Server, w http.ResponseWriter, req *http.Request) {
			interrupt()
			supervisortest.HangAfter(s, w, req)
		})
		got := call{cluster: r.cluster, ctx: ctx, args: r.args()}.run(t)
		got.wants(t, 130, "K10", "it is not known whether the server token was rotated")
		if r.printed(t, got.out) != r.k3s.Password() || r.record()["state"] != "unknown" {
			t.Error("another token is printed, or the record is wrong")
		}
	})
}

func TestRotateWithoutTheKubernetesAPI(t *testing.T) {
	t.Parallel()
	const warning = "no record of the rotation is looked for or left"
	empty := writeFile(t, "kubeconfig", "apiVersion: v1\nkind: Config\n")
	t.Run("no kubeconfig", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		got := offline(t, r.args("--kubeconfig", empty)...)
		got.wants(t, 0, "K10", "Warning: there is no kubeconfig context: "+warning)
		got.wants(t, 0, "K10", "kubectl k3s-token verify --server "+r.servers[0].URL+" --token-file")
		if len(r.Requests()) > 0 {
			t.Error("the API was asked")
		}
	})
	t.Run("no kubeconfig and no server", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		offline(t, "rotate", "--yes", "--token-file", r.current, "--kubeconfig", empty).wants(t, 1, "", "name them with --server")
		offline(t, "rotate", "--yes", "--token-file", r.current, "--kubeconfig", empty, "--all-servers").wants(t, 1, "", "name them with --server")
	})
	t.Run("an API that does not answer", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		r.Close()
		got := r.rotate(t)
		got.wants(t, 0, "K10", warning)
		if r.record() != nil {
			t.Error("there is a record")
		}
	})
	t.Run("another cluster's", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		r.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(supervisortest.NewCluster(t, supervisortest.Options{}).Bundle)})
		r.otherRecord(nil) // is none of ours
		got := r.rotate(t)
		got.wants(t, 0, "K10", "leads to another cluster, as the CA tells: "+warning)
		if r.record()["by"] != "joe" {
			t.Error("the other cluster's record was changed")
		}
	})
	for _, verb := range []string{http.MethodGet, http.MethodPost} {
		t.Run("an API that forbids "+verb, func(t *testing.T) {
			t.Parallel()
			r := newRotation(t, 1, supervisortest.Options{})
			r.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
				if req.Method != verb || !strings.HasPrefix(req.Path, apitest.ConfigMapsPath) || strings.HasSuffix(req.Path, "kube-root-ca.crt") {
					return false
				}
				apitest.Reply(w, req, http.StatusForbidden, &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "not for you"})
				return true
			})
			got := r.rotate(t)
			got.wants(t, 1, "", "Error from server (Forbidden): not for you")
			got.wants(t, 1, "", "or add --force to go without")
			r.unrotated(t)
			got = r.rotate(t, "--force")
			got.wants(t, 0, "K10", "Warning: no record of the rotation is left: not for you")
		})
	}
}

func TestRotateOnlyOneOfTwoAtOnce(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	// Both have looked for a record before one is left.
	var looked sync.WaitGroup
	looked.Add(2)
	r.Handle(func(_ http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if req.Method == http.MethodPost && req.Path == apitest.ConfigMapsPath && !req.DryRun() {
			looked.Done()
			looked.Wait()
		}
		return false
	})
	results := make([]outcome, 2)
	var running sync.WaitGroup
	for i := range results {
		running.Go(func() {
			results[i] = call{cluster: r.cluster, args: r.args(), random: rand.NewChaCha8([32]byte{byte(i)})}.run(t)
		})
	}
	running.Wait()
	winner := results[0]
	loser := results[1]
	if winner.code != 0 {
		winner, loser = loser, winner
	}
	loser.wants(t, 1, "", "somebody else rotates the server token at this moment")
	if winner.code != 0 || r.printed(t, winner.out) != r.k3s.Password() || len(r.servers[0].Puts()) != 1 {
		t.Errorf("exit code %d, %d PUTs", winner.code, len(r.servers[0].Puts()))
	}
}

func TestRotateOnRKE2(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{Program: "rke2", AgentPassword: agentToken})
	r.SetVersion("v1.34.2+rke2r1")
	got := r.rotate(t)
	got.wants(t, 0, "K10", "/etc/rancher/rke2/config.yaml, /etc/systemd/system/rke2-server.service")
	got.wants(t, 0, "K10", "The agents have a token of their own, and stay as they are.")
	if strings.Contains(got.stderr, "12982") || strings.Contains(got.stderr, "On every agent") {
		t.Errorf("stderr:\n%s", got.stderr)
	}
	if puts := r.servers[0].Puts(); len(puts) != 1 || puts[0].Path != "/v1-rke2/token" {
		t.Errorf("got the PUTs %v", len(puts))
	}
}

func TestRotateWarnsOfServersThatAreNotChecked(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	r.SetNodes(node("a", "127.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.0.3"))
	r.rotate(t).wants(t, 0, "K10", "Warning: the cluster has 3 servers, and 1 is checked: add --all-servers")
}

// throughProxy has the kubeconfig name a proxy on this machine, as for ssh -D,
// which connects to whatever it is told. It returns how many connections the
// proxy has made so far.
func (r *rotation) throughProxy(t *testing.T) *atomic.Int32 {
	t.Helper()
	made := new(atomic.Int32)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		server, err := new(net.Dialer).DialContext(req.Context(), "tcp", req.Host)
		if err != nil {
			http.Error(w, "no connection", http.StatusBadGateway)
			return
		}
		defer func() { _ = server.Close() }()
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = client.Close() }()
		made.Add(1)
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
	}))
	t.Cleanup(proxy.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	r.writeKubeconfig(t, func(config *clientcmdapi.Cluster) {
		config.CertificateAuthorityData, config.ProxyURL = ca, proxy.URL
	})
	return made
}

func TestRotateTakesNoAddressOfATunnelForALoadBalancer(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	r.SetNodes(node("a", "10.0.0.1"), node("b", "10.0.0.2"))
	r.rotate(t).wants(t, 0, "K10", "The server token is rotated")
}

func TestRotateIsNotFooledByAProxy(t *testing.T) {
	t.Parallel()
	const none = ", as far as can be told through a proxy, is none of "
	for name, test := range map[string]struct {
		nodes []corev1.Node
		named bool // by a name, not by its address
		more  []string
		code  int
		says  string
		lacks string
	}{
		"a load balancer": {
			nodes: []corev1.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2")},
			code:  1, says: none + "them: behind a load balancer a repeated request can reach another server and do damage; name one of the servers with --server (10.0.0.1, 10.0.0.2), or add --force",
		},
		"a load balancer, forced": {
			nodes: []corev1.Node{node("a", "10.0.0.1"), node("b", "10.0.0.2")}, more: []string{"--force"},
			says: none + "the cluster's 2 servers: make sure that it leads to one of them only",
		},
		"a proxy that runs on a node": {
			nodes: []corev1.Node{node("a", "127.0.0.1"), node("b", "10.0.0.2")}, named: true,
			code: 1, says: none + "them",
		},
		"the address of a node": {
			nodes: []corev1.Node{node("a", "127.0.0.1"), node("b", "10.0.0.2")},
			says:  "The server token is rotated", lacks: none,
		},
		"the name of a node": {
			nodes: []corev1.Node{node("a", "localhost"), node("b", "10.0.0.2")}, named: true,
			says: "The server token is rotated", lacks: none,
		},
		"the only server": {
			nodes: []corev1.Node{node("a", "10.0.0.1")},
			says:  "The server token is rotated", lacks: none,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotation(t, 1, supervisortest.Options{})
			r.SetNodes(test.nodes...)
			if test.named {
				r.servers[0].URL = strings.Replace(r.servers[0].URL, "127.0.0.1", "localhost", 1)
			}
			made := r.throughProxy(t)
			got := r.rotate(t, test.more...)
			got.has(t, test.code, test.says)
			if test.lacks != "" && strings.Contains(got.stderr, test.lacks) {
				t.Errorf("a node is taken for a load balancer:\n%s", got.stderr)
			}
			if test.code != 0 {
				r.unrotated(t)
			}
			if made.Load() == 0 {
				t.Error("nothing went through the proxy")
			}
		})
	}
}

func TestRotateDryRun(t *testing.T) {
	t.Parallel()
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		got := r.run(t, "rotate", "--token-file", r.current, "--dry-run=client", "--server", r.servers[0].URL)
		got.wants(t, 0, "", "Nothing was sent")
		if len(r.servers[0].Requests()) > 0 || len(r.Requests()) > 0 {
			t.Error("something was sent")
		}
		r.run(t, "rotate", "--token-file", r.current, "--dry-run=client", "--new-token", "short").wants(t, 1, "", "weak")
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 2, supervisortest.Options{})
		file := filepath.Join(t.TempDir(), "new")
		got := r.run(t, "rotate", "--token-file", r.current, "--dry-run=server", "--server", r.servers[0].URL, "--server", r.servers[1].URL, "--new-token-output", file)
		got.wants(t, 0, "", "The server token was not rotated, and nothing was changed (server dry run).")
		got.wants(t, 0, "", "Others:     "+r.servers[1].URL)
		got.wants(t, 0, "", "New token:  generated, written to "+file+" before the server is told")
		r.unrotated(t)
		if _, err := os.Stat(file); err == nil {
			t.Error("the file was written")
		}
	})
}

func TestRotatePrintsStructuredResults(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 2, supervisortest.Options{})
	got := r.rotate(t, "-o", "json")
	var result cmd.TokenRotation
	if err := json.Unmarshal([]byte(got.out), &result); err != nil || got.code != 0 {
		t.Fatalf("exit code %d, %v", got.code, err)
	}
	if result.Kind != "TokenRotation" || result.Outcome != "rotated" || result.Token != r.k3s.Token(r.k3s.Password()) ||
		result.Server != r.servers[0].URL || len(result.Restart) != 2 || result.Restart[0] != r.servers[0].URL {
		t.Error("the result is not what has happened")
	}

	r = newRotation(t, 1, supervisortest.Options{})
	file := filepath.Join(t.TempDir(), "new")
	got = r.rotate(t, "-o", "yaml", "--new-token-output", file)
	got.wants(t, 0, "outcome: rotated", "Keep the old token")
	got.hides(t, r.k3s.Password())

	r = newRotation(t, 1, supervisortest.Options{})
	r.servers[0].OnPut(supervisortest.Say(500, "token error ID 01234"))
	got = r.rotate(t, "-o", "jsonpath={.outcome} {.errorID}", "--new-token-output", filepath.Join(t.TempDir(), "new"))
	got.wants(t, 1, "unknown 01234", "Keep both tokens")

	r = newRotation(t, 1, supervisortest.Options{})
	r.rotate(t, "-o", "jsonpath={.outcome}").wants(t, 1, "", "--output=jsonpath={.outcome} leaves out the new token")
	r.unrotated(t)
	got = r.rotate(t, "-o", "jsonpath={.outcome}", "--new-token", givenServerToken)
	got.wants(t, 0, "rotated", "The server token is rotated")

	r = newRotation(t, 1, supervisortest.Options{})
	got = r.rotate(t, "-o", "go-template={{.nope.nope}}", "--allow-missing-template-keys=false")
	got.wants(t, 1, "", "nope")
	r.unrotated(t)
}

func TestRotateChecksTheCommandLine(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	s := r.servers[0].URL
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no terminal, no --yes":    {[]string{"--token-file", r.current, "--server", s}, "there is no terminal to ask on: add --yes to rotate the server token"},
		"no current token":         {[]string{"--yes", "--server", s}, "no current token given: use --token-file"},
		"an argument":              {[]string{r.k3s.Token(oldServerToken)}, "takes no arguments"},
		"two tokens from stdin":    {[]string{"--yes", "--token", "-", "--new-token", "-"}, "cannot both come from standard input"},
		"two new tokens":           {[]string{"--yes", "--token-file", r.current, "--new-token", givenServerToken, "--new-token-file", "f"}, "none of the others can be"},
		"a server that is no URL":  {[]string{"--yes", "--token-file", r.current, "--server", "k3s.example.com"}, "put https:// in front of it"},
		"a server that is a token": {[]string{"--yes", "--token-file", r.current, "--server", r.k3s.Token(oldServerToken)}, "is a token"},
		"an unknown format":        {[]string{"--yes", "--token-file", r.current, "-o", "table"}, "unknown output format"},
		"a file that is not there": {[]string{"--yes", "--token-file", "no-such-file"}, "the current token: open no-such-file"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.run(t, append([]string{"rotate"}, test.args...)...)
			got.wants(t, 1, "", test.says)
			got.hides(t, oldServerToken)
			got.hides(t, givenServerToken)
		})
	}
	if len(r.servers[0].Requests()) > 0 {
		t.Error("something was sent")
	}
}

func TestRotateReadsTheCurrentTokenFromStandardInput(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	got := call{cluster: r.cluster, stdin: oldServerToken + "\n", args: []string{"rotate", "-y", "-t", "-", "-s", r.servers[0].URL}}.run(t)
	got.wants(t, 0, "K10", "compare it with the token's        ok       the token has none; the server's is that of the context's cluster")
	got.hides(t, oldServerToken)
}

// onTerminal runs the program with all streams on a terminal, where keys are
// typed each time that a prompt appears.
func (r *rotation) onTerminal(ctx context.Context, t *testing.T, prompts [][2]string, args ...string) (code int, shown string) {
	t.Helper()
	screen, tty, err := pty.Open()
	if errors.Is(err, pty.ErrUnsupported) {
		t.Skip("there are no pseudo-terminals on", runtime.GOOS)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out buffer
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := screen.Read(b)
			_, _ = out.Write(b[:n])
			for len(prompts) > 0 && strings.Contains(out.String(), prompts[0][0]) {
				if prompts[0][1] != "" {
					// A prompt without echo turns the echo off a moment later.
					time.Sleep(200 * time.Millisecond)
					_, _ = io.WriteString(screen, prompts[0][1])
				}
				prompts = prompts[1:]
			}
			if err != nil {
				return
			}
		}
	})
	code = cmd.Run(ctx, append([]string{"kubectl-k3s_token", "rotate", "--kubeconfig", r.kubeconfig}, args...), cmd.Env{
		IOStreams: genericiooptions.IOStreams{In: tty, Out: tty, ErrOut: tty},
		Now:       func() time.Time { return now },
		Random:    &lockedReader{r: rand.NewChaCha8([32]byte{3})},
	})
	time.Sleep(50 * time.Millisecond)
	_ = tty.Close()
	_ = screen.Close()
	reading.Wait()
	return code, strings.ReplaceAll(out.String(), "\r\n", "\n")
}

func TestRotateAsksOnATerminal(t *testing.T) {
	t.Parallel()
	const question = "Do you want to rotate the server token of test ("
	t.Run("yes", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		code, shown := r.onTerminal(t.Context(), t, [][2]string{{"Current server token: ", r.k3s.Token(oldServerToken) + "\n"}, {"[y/N]", "y\n"}}, "--server", r.servers[0].URL)
		if code != 0 || !strings.Contains(shown, question) || !strings.Contains(shown, r.k3s.Token(r.k3s.Password())) {
			t.Errorf("exit code %d; on the terminal:\n%s", code, shown)
		}
		if strings.Contains(shown, oldServerToken) {
			t.Error("the terminal shows the current token")
		}
	})
	t.Run("no", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		code, shown := r.onTerminal(t.Context(), t, [][2]string{{"[y/N]", "\n"}}, "--server", r.servers[0].URL, "--token-file", r.current)
		if code != 1 || !strings.Contains(shown, "not confirmed: nothing was changed") {
			t.Errorf("exit code %d; on the terminal:\n%s", code, shown)
		}
		r.unrotated(t)
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		r := newRotation(t, 1, supervisortest.Options{})
		code, shown := r.onTerminal(t.Context(), t, [][2]string{{"Current server token: ", "\n"}}, "--server", r.servers[0].URL)
		if code != 1 || !strings.Contains(shown, "the current token: it is empty") {
			t.Errorf("exit code %d; on the terminal:\n%s", code, shown)
		}
	})
}

func TestRotateKnowsWhatItSendsIsWhole(t *testing.T) {
	t.Parallel()
	r := newRotation(t, 1, supervisortest.Options{})
	got := r.rotate(t)
	puts := r.servers[0].Puts()
	var body map[string]string
	if err := json.Unmarshal(puts[0].Body, &body); err != nil || len(body) != 1 || body["newToken"] != r.printed(t, got.out) {
		t.Errorf("the body is not {newToken: <the password>}: %v", errors.Join(err))
	}
}
