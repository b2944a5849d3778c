package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	clusterpkg "github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmd"
	"github.com/k3s-token/kubectl-k3s-token/test/apitest"
	"github.com/k3s-token/kubectl-k3s-token/test/supervisortest"
)

func TestVerifyShowsTheStepsAndTheVerdict(t *testing.T) {
	t.Parallel()
	_, peers := newPeers(t)
	server := peers.NewServer(t)
	o := peerCall{args: []string{"verify", "-s", server.URL, "-"}, stdin: peers.Token(serverPassword)}.run(t)
	o.wants(t, 0, "Server", "")
	want := fmt.Sprintf(`Server: %[1]s
Token:  server token

1  download the CA bundle             ok       %[2]d bytes from %[1]s/cacerts
2  compute its hash                   ok       %[3]s
3  compare it with the token's        ok       the hashes are equal
4  validate the server's certificate  ok       its chain leads to that CA, and it is for 127.0.0.1
5  send the credentials               ok       accepted: servers can join; agents cannot, the cluster has an agent token of its own

Verdict: accepted: servers can join; agents cannot, the cluster has an agent token of its own
`, server.URL, len(peers.Bundle), peers.CAHash)
	if o.out != want {
		t.Errorf("got\n%s\nwant\n%s", o.out, want)
	}
	for _, r := range server.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("the server was sent %s %s", r.Method, r.Path)
		}
	}
}

func TestVerifySaysWhatATokenIsGoodFor(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	server := peers.NewServer(t)
	secure := func(credentials string) string { return "K10" + peers.CAHash + "::" + credentials }
	for name, test := range map[string]struct {
		token, verdict string
	}{
		"server token":    {secure("server:" + serverPassword), "accepted: servers can join; agents cannot"},
		"agent token":     {secure("node:" + agentPassword), "accepted: agents can join"},
		"password":        {agentPassword, "accepted: agents can join; servers cannot, it is the agent token's password"},
		"bootstrap token": {secure(given), "accepted: agents can join"},
		"wrong password":  {secure("server:" + nextPassword), "refused"},
		"wrong agent's":   {secure("node:" + nextPassword), "refused"},
		"unknown token":   {secure("zzzzzz." + secretPart), "refused; the cluster has no token of that id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := peerCall{cluster: api, args: []string{"verify", "-s", server.URL, test.token}}.run(t)
			if accepted := strings.HasPrefix(test.verdict, "accepted"); accepted {
				o.wants(t, 0, "\nVerdict: "+test.verdict, "")
			} else {
				o.wants(t, 1, "\nVerdict: "+test.verdict, "error: "+server.URL+" does not accept the token\n")
			}
		})
	}
}

func TestVerifySaysWhyABootstrapTokenIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*corev1.Secret)
		want   string
	}{
		"expired":           {func(s *corev1.Secret) { s.Data["expiration"] = []byte("2020-01-01T00:00:00Z") }, "refused; the token expired "},
		"no authentication": {func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") }, "refused; the token lacks the usage authentication: create one that has it\n"},
		"malformed":         {func(s *corev1.Secret) { s.Data["expiration"] = []byte("soon") }, "refused; secret/bootstrap-token-ghijkl is malformed: expiration is not a time"},
		"another secret":    {func(s *corev1.Secret) { s.Data["token-secret"] = []byte("another0another0") }, "refused; the cluster has a token of that id with another secret: "},
		"another type":      {func(s *corev1.Secret) { s.Type = "Opaque" }, `refused; the cluster does not tell why: secret "bootstrap-token-ghijkl" is of type "Opaque"`},
		"good":              {func(*corev1.Secret) {}, "refused; the cluster has the token, and it is valid: try again in a moment\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, peers := newPeers(t)
			server := peers.NewServer(t)
			api.put("ghijkl", func(s *corev1.Secret) {
				s.Data["expiration"] = []byte("2099-01-01T00:00:00Z")
				test.change(s)
			})
			o := peerCall{cluster: api, args: []string{"verify", "-s", server.URL, "ghijkl." + secretPart}}.run(t)
			o.wants(t, 1, "\nVerdict: "+test.want, "does not accept the token")
			o.hides(t, "another0another0")
			// A context of another cluster has other tokens.
			api.SetConfigMap("kube-root-ca.crt", map[string]string{"ca.crt": string(bundleOf(api))})
			peerCall{cluster: api, args: []string{"verify", "-s", server.URL, "K10" + peers.CAHash + "::ghijkl." + secretPart}}.run(t).
				wants(t, 1, "\nVerdict: refused\n", "does not accept the token")
		})
	}
}

func TestVerifyAddsWhatTheClusterKnowsOfAnAcceptedToken(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	server := peers.NewServer(t)
	c := peerCall{cluster: api, args: []string{"verify", "-s", server.URL, given}}
	c.run(t).wants(t, 0, "Verdict: accepted: agents can join; the token was deleted a moment ago: the server remembers it for some seconds\n", "")
	api.put("abcdef", func(s *corev1.Secret) {
		s.Data["expiration"] = []byte(time.Now().Add(2*time.Hour + time.Minute).UTC().Format(time.RFC3339))
		s.Data["description"] = []byte("rack\x1b[31m 7")
	})
	o := c.run(t)
	o.wants(t, 0, "\nDescription: rack\\u001b[31m 7\nExpires:     ", "")
	o.wants(t, 0, "Z (in 2h)\nGroups:      "+defaultGroup+"\nUsages:      authentication,signing\n", "")

	// Who may not look at Secrets is told what the server says.
	api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
		if !strings.HasPrefix(req.Path, apitest.SecretsPath) {
			return false
		}
		supervisortest.SendStatus(w, http.StatusForbidden, "no")
		return true
	})
	c.run(t).wants(t, 0, "ok       accepted: agents can join\n\nVerdict: accepted: agents can join\n", "")
}

func TestVerifyTellsWhoseTokenItIs(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) {
		c.Server, c.CertificateAuthorityData = "https://127.0.0.1:1", peers.Bundle
	})
	other := supervisortest.NewCluster(t, supervisortest.Options{Password: serverPassword})
	peerCall{cluster: api, args: []string{"verify", "-s", peers.NewServer(t).URL, other.Token(serverPassword)}}.run(t).
		wants(t, 1, "\nVerdict: not sent; the server is of the context's cluster, so the token is of another, or older than this CA\n", "error: step 3 failed")
	peerCall{cluster: api, args: []string{"verify", "-s", other.NewServer(t).URL, peers.Token(serverPassword)}}.run(t).
		wants(t, 1, "\nVerdict: not sent; the token is of the context's cluster, and this server is not\n", "error: step 3 failed")
}

func TestVerifyPrintsAVerification(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	api.put("abcdef", nil)
	server := peers.NewServer(t)
	o := peerCall{cluster: api, args: []string{"verify", "-s", server.URL, given, "-o", "json"}}.run(t)
	o.wants(t, 0, `"kind": "Verification"`, "")
	var v cmd.Verification
	if err := json.Unmarshal([]byte(o.out), &v); err != nil {
		t.Fatal(err)
	}
	if v.Verdict != "accepted" || !v.JoinsAgents || v.JoinsServers || v.CAHash != peers.CAHash || v.Distribution != "k3s" ||
		v.Server != server.URL || "https://"+v.Remote != server.URL || len(v.Steps) != 5 || v.Token.ID != "abcdef" || v.BootstrapToken.ID != "abcdef" {
		t.Errorf("got %+v", v)
	}
	peerCall{cluster: api, args: []string{"verify", "-s", server.URL, nextPassword, "-o", "jsonpath={.verdict}/{.hint}/{.steps[4].status}"}}.run(t).
		wants(t, 1, "refused//failed", "error: "+server.URL+": refused: the server refuses the password")
	o = peerCall{cluster: api, args: []string{"verify", "-s", server.URL, "-s", "https://127.0.0.1:1", given, "-o", "yaml"}}.run(t)
	o.wants(t, 1, "kind: VerificationList\n", "error: the token is not good on 1 of 2 servers\n")
	peerCall{cluster: api, args: []string{"verify", "-s", server.URL, given, "-o", "go-template={{.verdict.x}}"}}.run(t).
		wants(t, 1, "", "error: error executing template")
	peerCall{cluster: api, args: []string{"verify", "-s", server.URL, given, "-o", "xml"}}.run(t).
		wants(t, 1, "", `error: unknown output format "xml"`)
}

func TestVerifyPutsSeveralServersSideBySide(t *testing.T) {
	t.Parallel()
	_, peers := newPeers(t)
	other := supervisortest.NewCluster(t, supervisortest.Options{Password: serverPassword})
	good, restarted, foreign := peers.NewServer(t), peers.NewServer(t), other.NewServer(t)
	restarted.Restart(nextPassword)
	o := peerCall{args: []string{
		"verify", peers.Token(serverPassword),
		"-s", good.URL, "-s", restarted.URL, "-s", foreign.URL, "-s", "https://127.0.0.1:1",
	}}.run(t)
	o.wants(t, 1, "SERVER", "error: the token is not good on 3 of 4 servers\n")
	rows := strings.Split(o.out, "\n")
	for i, want := range [][]string{
		{"SERVER", "RESULT", "CA HASH", "DETAIL"},
		{good.URL, "accepted", "matches", "servers can join; agents cannot, the cluster has an agent token of its own"},
		{restarted.URL, "refused", "matches", "the server refuses the password: it is not the server token's, or the server was not restarted after a rotation"},
		{foreign.URL, "not sent", "differs", "the server's CA is not the token's"},
		{"https://127.0.0.1:1", "not sent", "unknown", "step 1, download the CA bundle: nothing listens on 127.0.0.1:1"},
	} {
		for _, cell := range want {
			if !strings.Contains(rows[i], cell) {
				t.Errorf("row %d is %q, want %q in it", i, rows[i], cell)
			}
		}
	}
	peerCall{args: []string{"verify", "-s", good.URL, "-s", restarted.URL, serverPassword}}.run(t).
		wants(t, 1, "unverified", "error: the token is not good on 2 of 2 servers\n")
}

func TestVerifyAsksServersAtTheSameTime(t *testing.T) {
	t.Parallel()
	_, peers := newPeers(t)
	const n = 5
	args := []string{"verify", peers.Token(serverPassword)}
	var waiting atomic.Int32
	all := make(chan struct{})
	for range n {
		h := supervisortest.NewHostile(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if waiting.Add(1) == n {
				close(all)
			}
			<-all
		}), supervisortest.Always(peers))
		args = append(args, "-s", h.URL)
	}
	peerCall{args: args}.run(t).wants(t, 1, "empty", "error: the token is not good on 5 of 5 servers\n")
}

func TestVerifySeesWhoStillAcceptsTheOldToken(t *testing.T) {
	t.Parallel()
	_, peers := newPeers(t)
	done, forgotten, lost := peers.NewServer(t), peers.NewServer(t), peers.NewServer(t)
	done.Restart(nextPassword)
	lost.Restart("damaged-damaged-damaged")
	old := writeFile(t, "old", peers.Token(serverPassword))
	args := []string{"verify", peers.Token(nextPassword), "--old-token-file", old, "-s", done.URL}
	peerCall{args: args}.run(t).wants(t, 0, "\nOld token: refused\n\nVerdict: accepted: servers can join", "")
	o := peerCall{args: append(args, "-s", forgotten.URL, "-s", lost.URL)}.run(t)
	o.wants(t, 1, "OLD TOKEN", "error: the token is not good on 2 of 3 servers\n")
	rows := strings.Split(o.out, "\n")
	for i, want := range []string{"SERVER", "accepted   refused     matches", "refused    accepted    matches   it still accepts the old token: restart it with the new one", "refused    refused     matches   it accepts neither token"} {
		if !strings.Contains(rows[i], want) {
			t.Errorf("row %d is %q, want %q in it", i, rows[i], want)
		}
	}
	// An old token in short format is for the new one's cluster.
	short := writeFile(t, "short", serverPassword)
	peerCall{args: []string{"verify", peers.Token(nextPassword), "--old-token-file", short, "-s", forgotten.URL, "-o", "jsonpath={.verdict} {.oldToken}"}}.run(t).
		wants(t, 1, "refused accepted", "error: ")
	for content, want := range map[string]string{
		peers.Token(nextPassword): "error: --old-token-file: it holds the token to verify",
		given:                     "error: --old-token-file: it is a bootstrap token",
		"K10ab::" + given:         "error: --old-token-file: malformed token",
		"":                        "is empty",
	} {
		peerCall{args: []string{"verify", peers.Token(nextPassword), "--old-token-file", writeFile(t, "t", content), "-s", done.URL}}.run(t).
			wants(t, 1, "", want)
	}
}

// oneServer has a server of the cluster answer on the API's port as well, as
// K3s does, and makes it the context's and the cluster's only node.
func oneServer(t *testing.T, api *cluster, peers *supervisortest.Cluster) *supervisortest.Server {
	t.Helper()
	server := peers.NewServer(t)
	front := supervisortest.NewHostile(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cacerts" || strings.HasPrefix(r.URL.Path, "/v1-k3s/") {
			server.ServeHTTP(w, r)
			return
		}
		api.Server.Server.Config.Handler.ServeHTTP(w, r)
	}), supervisortest.Always(peers))
	api.writeKubeconfig(t, func(c *clientcmdapi.Cluster) { c.Server, c.CertificateAuthorityData = front.URL, peers.Bundle })
	api.SetNodes(nodeWith("s1", "127.0.0.1", "control-plane"))
	return server
}

func TestVerifyRemovesTheRecordOfARotationOnceAllServersAreDone(t *testing.T) {
	t.Parallel()
	api, peers := newPeers(t)
	server := oneServer(t, api, peers)
	mark, err := clusterpkg.NewMark(rand.NewChaCha8([32]byte{1}), serverPassword, nextPassword)
	if err != nil {
		t.Fatal(err)
	}
	api.SetConfigMap(clusterpkg.RotationRecord, map[string]string{
		"state": "rotated", "server": "https://s1.example:6443", "mark": mark,
		"started": time.Now().Add(-61 * time.Minute).UTC().Format(time.RFC3339),
	})
	verify := func(token string) outcome {
		return peerCall{cluster: api, args: []string{"verify", token, "--all-servers"}}.run(t)
	}
	stays := func() {
		t.Helper()
		if api.ConfigMap(clusterpkg.RotationRecord) == nil {
			t.Fatal("the record is gone")
		}
	}
	const about = "Warning: the rotation of the server token through https://s1.example:6443, begun 1h ago, is not finished: "

	// Nobody has been restarted, and so the old token is accepted.
	verify(peers.Token(serverPassword)).wants(t, 0, "accepted", about+"this is the token from before it, and no server has been restarted with the new one\n")
	stays()
	verify(peers.Token(nextPassword)).wants(t, 1, "refused", about+"restart each server that does not accept the new token, one after the other, and run this again\n")
	stays()
	for _, other := range []string{given, "K10" + peers.CAHash + "::node:" + agentPassword} {
		verify(other).wants(t, 0, "accepted", "")
		stays()
	}
	// A password that only joins agents says nothing of the server token.
	verify(agentPassword).wants(t, 0, "accepted", "")
	stays()

	server.Restart(nextPassword)
	peerCall{cluster: api, args: []string{"verify", peers.Token(nextPassword)}}.run(t).wants(t, 0, "Verdict: accepted", "")
	stays()
	verify(peers.Token(nextPassword)).wants(t, 0, "accepted", "the rotation of the server token through https://s1.example:6443, begun 1h ago, is finished: its record was removed (ConfigMap k3s-token-rotation in kube-system)\n")
	if api.ConfigMap(clusterpkg.RotationRecord) != nil {
		t.Error("the record is still there")
	}
	verify(peers.Token(nextPassword)).wants(t, 0, "accepted", "")
}

func TestVerifySaysWhereTheRecordOfARotationIsOutOfReach(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		api, peers := newPeers(t)
		oneServer(t, api, peers)
		mark, err := clusterpkg.NewMark(rand.NewChaCha8([32]byte{1}), nextPassword, serverPassword)
		if err != nil {
			t.Fatal(err)
		}
		api.SetConfigMap(clusterpkg.RotationRecord, map[string]string{"state": "rotated", "mark": mark})
		api.Handle(func(w http.ResponseWriter, _ *http.Request, req apitest.Request) bool {
			if req.Method != method || !strings.HasSuffix(req.Path, clusterpkg.RotationRecord) {
				return false
			}
			supervisortest.SendStatus(w, http.StatusForbidden, "not you")
			return true
		})
		want := map[string]string{
			http.MethodGet:    "Warning: whether a rotation of the server token is unfinished cannot be told: ",
			http.MethodDelete: "is finished, but its record was not removed (ConfigMap k3s-token-rotation in kube-system): ",
		}[method]
		peerCall{cluster: api, args: []string{"verify", peers.Token(serverPassword), "--all-servers"}}.run(t).wants(t, 0, "accepted", want)
	}
}

// attack is a server that means ill: what it does, and what is said of it.
type attack struct {
	handler http.Handler
	pick    func(n int) *supervisortest.Cluster
	names   []string
	says    string
}

func attacks(ours, evil *supervisortest.Cluster) map[string]attack {
	// takeAll asks nobody who they are, and gives clients what they are after.
	takeAll := func(bundle func(n int32) []byte) http.Handler {
		var n atomic.Int32
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			switch {
			case r.URL.Path == "/cacerts":
				_, _ = w.Write(bundle(n.Add(1)))
			case r.Header.Get("Authorization") == "":
				supervisortest.SendStatus(w, http.StatusForbidden, "forbidden")
			}
		})
	}
	showing := func(b []byte) http.Handler { return takeAll(func(int32) []byte { return b }) }
	good := supervisortest.Always(ours)
	// after is good for n connections, and evil from then on.
	after := func(n int) func(int) *supervisortest.Cluster {
		return func(i int) *supervisortest.Cluster {
			if i <= n {
				return ours
			}
			return evil
		}
	}
	// once trusted, the server does this.
	later := func(answer http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/cacerts" {
				_, _ = w.Write(ours.Bundle)
				return
			}
			answer(w, r)
		})
	}
	return map[string]attack{
		"another CA":                          {showing(evil.Bundle), supervisortest.Always(evil), nil, "step 3"},
		"the right bundle, another CA's cert": {showing(ours.Bundle), supervisortest.Always(evil), nil, "step 4"},
		"another CA after the download":       {showing(ours.Bundle), after(1), nil, "step 4"},
		"another CA after the validation":     {showing(ours.Bundle), after(2), nil, "step 5"},
		"another CA before the credentials":   {showing(ours.Bundle), after(3), nil, "not signed by the CA"},
		"a certificate for another name":      {showing(ours.Bundle), good, []string{"s1.example"}, "step 4"},
		"a bundle of more than 1 MiB":         {showing(append(bytes.Repeat([]byte("#"), 1<<20), ours.Bundle...)), good, nil, "too large"},
		"no PEM":                              {showing([]byte("<html>hello</html>")), good, nil, "holds no certificate"},
		"an empty bundle":                     {showing(nil), good, nil, "bundle is empty"},
		"a redirect of the download":          {http.RedirectHandler("https://evil.example/cacerts", http.StatusFound), good, nil, "answers with a redirect"},
		"a redirect after the trust": {later(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}), good, nil, "answers with a redirect"},
		"a Kubernetes API":                     {http.NotFoundHandler(), good, nil, "no public /cacerts"},
		"a proxy in front of a Kubernetes API": {later(http.NotFound), good, nil, "not a K3s supervisor"},
		"another bundle the second time": {takeAll(func(n int32) []byte {
			if n == 1 {
				return ours.Bundle
			}
			return evil.Bundle
		}), good, nil, "another CA bundle than a moment ago"},
		"a body that never ends": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, "#")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Millisecond)
			}
			panic(http.ErrAbortHandler) // else the body would end
		}), good, nil, "did not answer in time"},
		"silence": {http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // else an empty answer would follow
		}), good, nil, "did not answer in time"},
	}
}

func TestVerifySendsNothingToAHostileServer(t *testing.T) {
	t.Parallel()
	ours := supervisortest.NewCluster(t, supervisortest.Options{Password: serverPassword})
	evil := supervisortest.NewCluster(t, supervisortest.Options{Password: serverPassword})
	for name := range attacks(ours, evil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for credentials, secret := range map[string]string{
				"server:" + serverPassword: serverPassword, "node:" + agentPassword: agentPassword, given: secretPart,
			} {
				for _, format := range []string{"text", "json"} {
					a := attacks(ours, evil)[name] // some count what they are asked
					h := supervisortest.NewHostile(t, a.handler, a.pick, a.names...)
					o := peerCall{
						args:  []string{"verify", "-", "-s", h.URL, "-o", format, "--request-timeout", "300ms"},
						stdin: "K10" + ours.CAHash + "::" + credentials,
					}.run(t)
					if o.code != 1 || !strings.Contains(o.out+o.stderr, a.says) {
						t.Errorf("exit code %d, want 1 and %q in\n%s%s", o.code, a.says, o.out, o.stderr)
					}
					if h.Heard(secret) {
						t.Error("the server heard the credentials")
					}
				}
			}
		})
	}
}

func TestVerifyDoesNotRepeatWhatAServerEchoes(t *testing.T) {
	t.Parallel()
	ours := supervisortest.NewCluster(t, supervisortest.Options{})
	h := supervisortest.NewHostile(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch _, password, ok := r.BasicAuth(); {
		case r.URL.Path == "/cacerts":
			_, _ = w.Write(ours.Bundle)
		case ok:
			supervisortest.SendStatus(w, http.StatusTeapot, "\x1b[2J"+password)
		default:
			supervisortest.SendStatus(w, http.StatusForbidden, "forbidden")
		}
	}), supervisortest.Always(ours))
	for _, format := range []string{"text", "json"} {
		peerCall{args: []string{"verify", ours.Token(serverPassword), "-s", h.URL, "-o", format}}.run(t).
			wants(t, 1, "unexpected", "error: "+h.URL)
	}
	if !h.Heard(serverPassword) {
		t.Error("the server was not asked: the test shows nothing")
	}
}

func TestVerifyEndsWhereItIsInterrupted(t *testing.T) {
	t.Parallel()
	ours := supervisortest.NewCluster(t, supervisortest.Options{})
	for _, args := range [][]string{nil, {"-o", "json"}, {"-s", "https://127.0.0.1:1"}} {
		ctx, interrupt := interruptible(t)
		h := supervisortest.NewHostile(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			interrupt()
			<-r.Context().Done()
		}), supervisortest.Always(ours))
		o := peerCall{ctx: ctx, args: append([]string{"verify", ours.Token(serverPassword), "-s", h.URL}, args...)}.run(t)
		if o.code != 130 || o.stderr != "error: interrupted\n" || strings.Contains(o.out, "Verdict") {
			t.Errorf("exit code %d, want 130:\n%s%s", o.code, o.out, o.stderr)
		}
	}
}

func TestVerifySendsNothingForAReaderWhoIsGone(t *testing.T) {
	t.Parallel()
	_, peers := newPeers(t)
	server := peers.NewServer(t)
	for err, stderr := range map[error]string{syscall.EPIPE: "", syscall.ENOSPC: "error: standard output: no space left on device\n"} {
		peerCall{stdout: brokenWriter{err}, args: []string{"verify", peers.Token(serverPassword), "-s", server.URL}}.run(t).
			wants(t, 1, "", stderr)
	}
	if server.SawCredentials() {
		t.Error("the server saw credentials")
	}
}
