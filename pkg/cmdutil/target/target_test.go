package target_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

func report(err error) string {
	var out strings.Builder
	if err != nil {
		cmdutil.ReportError(&out, err)
	}
	return out.String()
}

const (
	one, two = "https://one.example.com:6443", "https://two.example.com:6443"
	nobody   = "https://127.0.0.1:1"
	broken   = "https://%"
)

// newServers returns the servers of a kubeconfig with a CA, and of flags. An API
// without an address is none.
func newServers(t *testing.T, api string, allServers bool, named ...string) (*target.Servers, error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	config := genericclioptions.NewConfigFlags(true)
	*config.APIServer, *config.CAFile, *config.TLSServerName = api, "../../token/testdata/single.pem", "k3s.example.com"
	return (&target.Flags{URLs: named, AllServers: allServers}).Servers(cmdutil.NewClients(config, cmdutil.Streams{IOStreams: genericiooptions.NewTestIOStreamsDiscard()}))
}

func TestTheServersAreNamedOrTheContexts(t *testing.T) {
	for _, test := range []struct{ named, api, want string }{
		{one, nobody, "[" + one + "]"},
		{"", nobody, "[" + nobody + "]"},
		{"k3s", nobody, "error: --server: the server URL has no scheme\nhint: put https:// in front of it\n"},
		{"", "", "error: there is no kubeconfig context\nhint: name the servers with --server\n"},
		{one, broken, "[" + one + "]"},
		{"", broken, "Unable to connect to the server: invalid URL"},
	} {
		servers, err := newServers(t, test.api, false, strings.Fields(test.named)...)
		var urls []supervisor.URL
		if err == nil {
			urls, err = servers.URLs(t.Context())
		}
		if got := cmp.Or(report(err), fmt.Sprint(urls)); !strings.HasPrefix(got, test.want) {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestAllServersAreThoseNamedAndThoseOfTheCluster(t *testing.T) {
	servers, err := newServers(t, nobody, true, one, nobody)
	if err != nil {
		t.Fatal(err)
	}
	servers.Cluster.Client = fake.NewClientset(newNode("127.0.0.1"), newNode("10.0.0.2")).CoreV1()
	if urls, err := servers.URLs(t.Context()); fmt.Sprint(urls) != "["+one+" "+nobody+" https://10.0.0.2:1]" {
		t.Errorf("got %v, %v", urls, err)
	}
}

func newNode(address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: address, Labels: map[string]string{"node-role.kubernetes.io/control-plane": "true"}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

// TestTheContextsSettingsAreForItsServers has one that the context does not know.
func TestTheContextsSettingsAreForItsServers(t *testing.T) {
	servers, err := newServers(t, nobody, false, one)
	if err != nil {
		t.Fatal(err)
	}
	servers.Cluster.Config.Proxy = http.ProxyURL(&url.URL{Host: "proxy"})
	for server, want := range map[string]struct{ name, hint, unused string }{
		nobody:                 {"k3s.example.com", "check proxy-url in the kubeconfig", "[tls-server-name proxy-url]"},
		"https://127.0.0.1:99": {"k3s.example.com", "check proxy-url in the kubeconfig", "[tls-server-name proxy-url]"}, // its supervisor on RKE2
		two:                    {"", "check proxy-url in the kubeconfig", "[proxy-url]"},                                // another server of the cluster
		one:                    {"", "check HTTPS_PROXY, or add the server to NO_PROXY", "[]"},
	} {
		u, err := supervisor.ParseURL(server)
		if err != nil {
			t.Fatal(err)
		}
		options := servers.Options(u, token.Token{CAHash: "hash"})
		if unused := fmt.Sprint(servers.NotForNodes(u)); options.ServerName != want.name || options.ProxyHint != want.hint || unused != want.unused {
			t.Errorf("%s: got %q, %q, %s", server, options.ServerName, options.ProxyHint, unused)
		}
	}
}

// The API does not answer here, so the CA is the kubeconfig's.
func TestTheContextsCAVouchesForItsServers(t *testing.T) {
	want, err := os.ReadFile("../../token/testdata/single.pem")
	if err != nil {
		t.Fatal(err)
	}
	for api, trusted := range map[string]bool{nobody: true, "": false} {
		servers, err := newServers(t, api, false, one)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := supervisor.ParseURL(one)
		if got := servers.Options(u, token.Token{}).ContextCA(t.Context()); bytes.Equal(got, want) != trusted || !trusted && got != nil {
			t.Errorf("%q: got %q", api, got)
		}
		if servers.Cluster == nil {
			continue
		}
		servers.Cluster.Config.Insecure = true
		if got := servers.Options(u, token.Token{}).ContextCA(t.Context()); got != nil {
			t.Error("an unverified kubeconfig vouches")
		}
	}
}
