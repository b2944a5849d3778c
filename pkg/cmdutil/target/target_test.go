package target_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const (
	one, two = "https://one.example.com:6443", "https://two.example.com:6443"
	nobody   = "https://127.0.0.1:1"
)

// TestTheContextsSettingsAreForItsServers has one that the context does not know.
func TestTheContextsSettingsAreForItsServers(t *testing.T) {
	config := genericclioptions.NewConfigFlags(true)
	*config.APIServer, *config.CAFile, *config.TLSServerName = nobody, "../../token/testdata/single.pem", "k3s.example.com"
	clients := cmdutil.NewClients(config, cmdutil.Streams{IOStreams: genericiooptions.NewTestIOStreamsDiscard()})
	servers, err := (&target.Flags{URLs: []string{one}}).Servers(clients)
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
		options := servers.Options(u)
		if unused := fmt.Sprint(servers.NotForNodes(u)); options.ServerName != want.name || options.ProxyHint != want.hint || unused != want.unused {
			t.Errorf("%s: got %q, %q, %s", server, options.ServerName, options.ProxyHint, unused)
		}
	}
}
