package verify

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	password    = "hunter2hunter2"
	oldPassword = "hunter1hunter1"
	secret      = "0123456789abcdef"

	ours        = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260" // of single.pem
	serverToken = "K10" + ours + "::server:" + password
)

// try is a server that accepts the new or the old password, as its host says, and
// the bootstrap token if that is "good". Others have another CA, or no answer.
func try(_ context.Context, url supervisor.URL, t token.Token, role supervisor.Role, _ supervisor.Options) supervisor.Report {
	report := supervisor.Report{CAHash: ours, Verdict: supervisor.Accepted, Steps: []supervisor.Step{{Name: "a step", Status: supervisor.Passed}}}
	fail := func(verdict supervisor.Verdict, err error) supervisor.Report {
		report.Verdict, report.Err = verdict, err
		report.Steps = append(report.Steps, supervisor.Step{Name: "the last", Status: supervisor.Failed})
		return report
	}
	switch host := url.Host(); {
	case host == "foreign":
		report.CAHash = ""
		return fail(supervisor.NotSent, hint.New("the token is for another CA", "check it"))
	case host == "balancer" && role == supervisor.Server:
		return fail(supervisor.NotSent, hint.New("the certificate is not for balancer", "add --tls-san"))
	case host == "lost", host == "unsure" && t.Secret == oldPassword:
		return fail(supervisor.NoAnswer, hint.New("the connection is gone", "try again"))
	case host == "good", host == "balancer", host == "unsure":
		return report
	case host == "new" && t.Secret == password, host == "old" && t.Secret == oldPassword:
		return report
	}
	return fail(supervisor.Refused, hint.New("the server does not accept the token: refused", "check the token"))
}

// newCluster returns the context's cluster, whose CA is ours.
func newCluster(t *testing.T, objects ...runtime.Object) (*cluster.Cluster, *fake.Clientset) {
	t.Helper()
	ca, err := os.ReadFile("../../token/testdata/single.pem")
	if err != nil {
		t.Fatal(err)
	}
	api := fake.NewSimpleClientset(append(objects, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": string(ca)},
	})...)
	config := &rest.Config{Host: "https://good:6443", Proxy: http.ProxyURL(&url.URL{Host: "proxy"})}
	return &cluster.Cluster{Config: config, Client: api.CoreV1()}, api
}

// run verifies a token on hosts, and returns what is printed and what is reported.
func run(ctx context.Context, t *testing.T, text, hosts string, c *cluster.Cluster, change func(*Options)) (stdout, stderr string) {
	t.Helper()
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	o := &Options{Streams: cmdutil.Streams{IOStreams: streams}, Print: cmdutil.NewPrintFlags(printText), Try: try}
	for _, host := range strings.Fields(hosts) {
		o.URLs = append(o.URLs, "https://"+host+":6443")
	}
	if change != nil {
		change(o)
	}
	printer, err := o.Print.ToPrinter()
	if err == nil {
		err = o.Complete(ctx, cmdutil.NewClients(genericclioptions.NewConfigFlags(true), o.Streams), []string{text})
	}
	if err == nil {
		o.servers.Cluster = c
		err = o.Run(ctx, printer)
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
	for tries, want := range map[int]string{3: "As an agent:  joins", 9: "hint: the cluster has the token, and it is valid"} {
		synctest.Test(t, func(t *testing.T) {
			stored := bootstrap.EncodeSecret(&bootstrap.Token{
				Token: token.Token{ID: "abcdef", Secret: secret}, Usages: []string{"authentication"},
			})
			stored.Namespace = bootstrap.Namespace
			c, _ := newCluster(t, stored)
			tried := 0
			stdout, _ := run(t.Context(), t, "abcdef."+secret, "good", c, func(o *Options) {
				o.Try = func(ctx context.Context, url supervisor.URL, got token.Token, r supervisor.Role, opts supervisor.Options) supervisor.Report {
					if tried++; tried < tries {
						url = supervisor.URL{} // refuses
					}
					return try(ctx, url, got, r, opts)
				}
			})
			if !strings.Contains(stdout, want) || tried != min(tries, 5) {
				t.Errorf("after %d tries: %s", tried, stdout)
			}
		})
	}
}

func TestTheConclusionForEachRole(t *testing.T) {
	t.Parallel()
	c, _ := newCluster(t)
	for host, want := range map[string][2]string{
		"good": {"\n\nSTEP       AGENT  SERVER\n1  a step  ok     ok\n\nAs an agent:  joins\nAs a server:  joins\n",
			"Warning: nodes do not use the context's proxy-url: they connect to https://good:6443 directly\n"},
		"balancer": {"2  the last         failed\n\nAs an agent:  joins\nAs a server:  does not join: the certificate is not for balancer\n              hint: add --tls-san\n", ""},
		"lost":     {"\nAs a server:  not known: the connection is gone\n              hint: try again\n", "error: https://lost:6443 has not accepted the token\n"},
	} {
		stdout, stderr := run(t.Context(), t, serverToken, host, c, nil)
		if !strings.Contains(stdout, want[0]) || stderr != want[1] {
			t.Errorf("%s: got\n%s%s", host, stdout, stderr)
		}
	}
}

func TestARotationIsFinishedOnceAllServersAcceptTheNewTokenAlone(t *testing.T) {
	t.Parallel()
	oldToken := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(oldToken, []byte(oldPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	const restart = "is not finished: restart each server that does not accept the new token alone\n"
	const unfinished = restart + "error: the token is not good on 1 of 2 servers\n"
	for hosts, says := range map[string]string{
		"new":         "is finished; its record was removed (ConfigMap k3s-token-rotation)\n",
		"new foreign": unfinished,
		"new old":     unfinished,
		"new lost":    unfinished,
		"new neither": unfinished,
		"new good":    unfinished, // it accepts both
		"new unsure":  unfinished,
		"old":         restart + "error: https://old:6443 has not refused the old token\nhint: restart it with the new token\n",
	} {
		c, api := newCluster(t, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: rotation.RecordName, Namespace: "kube-system", UID: "uid", ResourceVersion: "1"},
			Data:       map[string]string{"state": "rotated", "server": "https://new:6443", "started": "2025-01-01T00:00:00Z"},
		})
		for _, host := range strings.Fields(hosts) {
			_ = api.Tracker().Add(&corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: host, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}},
				Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: host}}},
			})
		}
		_, stderr := run(t.Context(), t, serverToken, "", c, func(o *Options) { o.AllServers, o.OldTokenFile = true, oldToken })
		_, err := api.CoreV1().ConfigMaps("kube-system").Get(t.Context(), rotation.RecordName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) != (hosts == "new") || !strings.HasSuffix(stderr, says) {
			t.Errorf("%s: the record: %v, and\n%s", hosts, err, stderr)
		}
	}
}
