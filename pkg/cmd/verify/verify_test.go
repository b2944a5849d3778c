package verify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	password    = "hunter2hunter2"
	oldPassword = "hunter1hunter1"
	secret      = "0123456789abcdef"
	bootstrapID = "abcdef." + secret
)

var (
	ours, others = strings.Repeat("0", 64), strings.Repeat("1", 64)
	serverToken  = "K10" + ours + "::server:" + password
)

// servers are the hosts of servers. The CA of the context is ours.
type servers []string

func (s servers) URLs(context.Context) (urls []supervisor.URL, _ error) {
	for _, host := range s {
		url, err := supervisor.ParseURL("https://" + host + ":6443")
		if err != nil {
			return nil, err
		}
		urls = append(urls, url)
	}
	return urls, nil
}

func (servers) Options(context.Context, token.Token) supervisor.Options { return supervisor.Options{} }
func (servers) ContextCA(context.Context) (cluster.CA, error)           { return cluster.CA{Hash: ours}, nil }

// try is a server that accepts the new or the old password, as its host says, and
// the bootstrap token if that is "good". Others have another CA, or no answer.
func try(ctx context.Context, url supervisor.URL, t token.Token, _ supervisor.Options) (supervisor.Report, error) {
	report := supervisor.Report{CAHash: ours, Steps: []supervisor.Step{{Number: 3, Name: "compare", Status: supervisor.Passed}}}
	verdict := supervisor.Answer{Verdict: supervisor.Refused}
	switch host := url.Host(); {
	case host == "foreign":
		report.CAHash, report.Steps[0].Status = "", supervisor.Failed
		return report, &supervisor.HashMismatchError{Token: t.CAHash, Server: others}
	case host == "ours":
		report.CAHash = ""
		return report, &supervisor.HashMismatchError{Token: t.CAHash, Server: ours}
	case host == "lost":
		return report, cmdutil.WithHint(errors.New("the connection is gone"), "try again")
	case host == "good", host == "new" && t.Secret == password, host == "old" && t.Secret == oldPassword:
		verdict.Verdict = supervisor.Accepted
	}
	report.Finding = supervisor.Finding{Agents: verdict, Servers: verdict}
	if verdict.Verdict == supervisor.Accepted {
		return report, ctx.Err()
	}
	return report, &supervisor.NotAcceptedError{Finding: report.Finding, Type: t.Type()}
}

// run verifies a token, and returns what is printed and what is reported.
func run(ctx context.Context, t *testing.T, text string, hosts servers, change func(*Options, *contextCluster)) (stdout, stderr string) {
	t.Helper()
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	o := &Options{Streams: cmdutil.Streams{IOStreams: streams}, Print: cmdutil.NewPrintFlags().WithText(printText), Try: try}
	c := contextCluster{ca: hosts.ContextCA}
	if change != nil {
		change(o, &c)
	}
	printer, err := o.Print.ToPrinter()
	if err == nil {
		err = o.Complete(ctx, []string{text})
	}
	if err == nil {
		err = o.Run(ctx, hosts, c, printer)
	}
	if err != nil {
		cmdutil.ReportError(errOut, err)
	}
	if all := out.String() + errOut.String(); strings.Contains(all, secret) || strings.Contains(all, "hunter") {
		t.Error("a secret is shown")
	}
	return out.String(), errOut.String()
}

// The server does not know a new token at once.
func TestAValidTokenThatIsRefusedIsTriedAgain(t *testing.T) {
	for tries, want := range map[int]string{3: "Verdict: accepted", 9: "Verdict: refused; the cluster has the token, and it is valid"} {
		synctest.Test(t, func(t *testing.T) {
			tried := 0
			stdout, _ := run(t.Context(), t, bootstrapID, servers{"good"}, func(o *Options, c *contextCluster) {
				o.Try = func(ctx context.Context, url supervisor.URL, got token.Token, options supervisor.Options) (supervisor.Report, error) {
					if tried++; tried < tries {
						url = supervisor.URL{} // which refuses
					}
					return try(ctx, url, got, options)
				}
				c.stored = func(context.Context, token.Token) (*bootstrap.Token, error) {
					return &bootstrap.Token{SecretName: "bootstrap-token-abcdef", Usages: []string{"authentication"}}, nil
				}
			})
			if !strings.Contains(stdout, want) || tried != min(tries, 5) {
				t.Errorf("after %d tries: %s", tried, stdout)
			}
		})
	}
}

func TestTheVerdictOfAServer(t *testing.T) {
	t.Parallel()
	for host, want := range map[string][2]string{
		"good":    {"Token:  server token\n\n3  compare                            ok       \n\nVerdict: accepted: servers and agents can join\n", ""},
		"old":     {"\nVerdict: refused; use ", "error: https://old:6443 does not accept the token\n"},
		"lost":    {"\nVerdict: unknown; try again\n", "error: whether https://lost:6443 accepts the token is not known\n"},
		"foreign": {"\nVerdict: not sent; the token is the context's, and the server is not\n", "error: the token was not sent to https://foreign:6443: step 1 failed\n"},
	} {
		stdout, stderr := run(t.Context(), t, serverToken, servers{host}, nil)
		if !strings.Contains(stdout, want[0]) || stderr != want[1] {
			t.Errorf("%s: got\n%s%s", host, stdout, stderr)
		}
	}
	stdout, _ := run(t.Context(), t, strings.Replace(serverToken, ours, others, 1), servers{"ours"}, nil)
	if !strings.Contains(stdout, "\nVerdict: not sent; the server is the context's, so the token is another cluster's") {
		t.Errorf("got\n%s", stdout)
	}
	stdout, _ = run(t.Context(), t, "ABCDEF."+secret, servers{"good"}, func(o *Options, _ *contextCluster) {
		*o.Print.OutputFormat = "jsonpath={.kind} {.verdict} {.joinsAgents} {.token.type} {.token.hint}"
	})
	if !strings.HasPrefix(stdout, "Verification accepted true password taken as a password") {
		t.Errorf("got %q", stdout)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if stdout, stderr := run(ctx, t, serverToken, servers{"good"}, nil); stdout != "" || stderr != "error: interrupted\n" {
		t.Errorf("got %q, %q", stdout, stderr)
	}
}

func TestWhatTheClusterKnowsOfABootstrapToken(t *testing.T) {
	t.Parallel()
	missing := apierrors.NewNotFound(schema.GroupResource{}, "")
	for _, test := range []struct {
		host   string
		stored bootstrap.Token
		err    error
		want   string
	}{
		{"good", bootstrap.Token{Description: "rack\x1b 7"}, nil, "\nDescription: rack\ufffd 7\nExpires:     <never>\nGroups:      <none>\nUsages:      authentication\n"},
		{"good", bootstrap.Token{}, missing, "accepted: servers and agents can join\n"},
		{"good", bootstrap.Token{}, errors.New("forbidden"), "accepted: servers and agents can join\n"},
		{"old", bootstrap.Token{}, missing, "refused; the cluster has no token with this id"},
		{"old", bootstrap.Token{}, bootstrap.ErrOtherSecret, "refused; the cluster has a token with this id and another secret"},
		{"old", bootstrap.Token{}, errors.New("forbidden"), "refused; the cluster does not tell why: forbidden"},
		{"old", bootstrap.Token{Expires: time.Now().Add(-time.Hour)}, nil, "refused; the token expired 60m ago"},
		{"old", bootstrap.Token{Problem: "expiration is not in RFC 3339"}, nil, "refused; secret/bootstrap-token-abcdef is malformed: expiration"},
		{"old", bootstrap.Token{Usages: []string{"signing"}}, nil, "refused; the token lacks the usage authentication"},
		{"another cluster's", bootstrap.Token{}, nil, "refused; check that the token"},
	} {
		test.stored.SecretName, test.stored.Secret = "bootstrap-token-abcdef", secret
		if test.stored.Usages == nil {
			test.stored.Usages = []string{"authentication"}
		}
		stdout, _ := run(t.Context(), t, bootstrapID, servers{strings.Fields(test.host)[0]}, func(_ *Options, c *contextCluster) {
			c.stored = func(context.Context, token.Token) (*bootstrap.Token, error) { return &test.stored, test.err }
			if test.host == "another cluster's" {
				c.ca = func(context.Context) (cluster.CA, error) { return cluster.CA{Hash: others}, nil }
			}
		})
		if !strings.Contains(stdout, test.want) {
			t.Errorf("lacks %q:\n%s", test.want, stdout)
		}
	}
}

func TestARotationIsFinishedOnceAllServersAcceptTheNewTokenAlone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hosts servers
		old   string
		rows  []string
		says  string
	}{
		"finished": {servers{"new", "new"}, oldPassword, []string{"https://new:6443   accepted   refused     matches   servers and agents can join\n"},
			"is finished; its record was removed (ConfigMap k3s-token-rotation)\n"},
		"unfinished": {servers{"foreign", "new", "old", "lost", "neither"}, oldPassword, []string{
			"SERVER                 RESULT     OLD TOKEN   CA HASH   DETAIL\n", "https://old:6443       refused    accepted    matches   it still accepts the old token: restart it",
			"https://foreign:6443   not sent   <none>      differs   the token is for CA", "https://lost:6443      unknown ", "https://neither:6443   refused    refused     matches   it accepts neither token",
		}, "is not finished: restart each server that does not accept the new token alone\nerror: the token is not good on 4 of 5 servers\n"},
		"unproved":  {servers{"new"}, "", []string{"https://new:6443   accepted   matches   servers"}, "is not known to be finished: add --old-token-file\n"},
		"same":      {servers{"new"}, serverToken, nil, "error: --old-token-file holds the token to verify\nhint: give the token from before the rotation\n"},
		"bootstrap": {servers{"new"}, bootstrapID, nil, "error: --old-token-file: a bootstrap token, but only the server token is rotated\n"},
	} {
		file := filepath.Join(t.TempDir(), "old")
		if err := os.WriteFile(file, []byte(test.old), 0o600); err != nil {
			t.Fatal(err)
		}
		maps := fake.NewClientset(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: rotation.RecordName, Namespace: "kube-system", UID: "uid", ResourceVersion: "1"},
			Data:       map[string]string{"state": "rotated", "server": "https://new:6443", "started": "2025-01-01T00:00:00Z"},
		}).CoreV1().ConfigMaps("kube-system")
		stdout, stderr := run(t.Context(), t, serverToken, test.hosts, func(o *Options, c *contextCluster) {
			if o.AllServers, c.records = true, rotation.NewRecords(maps); test.old != "" {
				o.OldTokenFile = file
			}
		})
		for _, row := range test.rows {
			if !strings.Contains(stdout, row) {
				t.Errorf("%s: lacks %q:\n%s", name, row, stdout)
			}
		}
		if _, err := maps.Get(t.Context(), rotation.RecordName, metav1.GetOptions{}); apierrors.IsNotFound(err) != (name == "finished") || !strings.HasSuffix(stderr, test.says) {
			t.Errorf("%s: the record: %v, and\n%s", name, err, stderr)
		}
	}
}
