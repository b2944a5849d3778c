package target_test

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	one, two = "https://one.example.com:6443", "https://two.example.com:6443"
	nobody   = "https://127.0.0.1:1"
	broken   = "https://%"
)

// newServers returns the servers of a kubeconfig with a CA, and of flags. An API
// without an address is none.
func newServers(t *testing.T, api string, named ...string) (*target.Servers, error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	config := genericclioptions.NewConfigFlags(true)
	*config.APIServer, *config.CAFile, *config.TLSServerName = api, "../../token/testdata/single.pem", "k3s.example.com"
	return (&target.Flags{URLs: named}).Servers(cmdutil.NewClients(config, cmdutil.Streams{IOStreams: genericiooptions.NewTestIOStreamsDiscard()}))
}

func TestTheServersAreNamedOrTheContexts(t *testing.T) {
	for _, test := range []struct{ named, api, want, err string }{
		{one, nobody, "[" + one + "]", ""},
		{"", nobody, "[" + nobody + "]", ""},
		{one, broken, "[" + one + "]", ""},
		{"k3s", nobody, "[]", "--server: the server URL has no scheme"},
		{"", "", "[]", "there is no kubeconfig context"},
	} {
		var urls []supervisor.URL
		servers, err := newServers(t, test.api, strings.Fields(test.named)...)
		if err == nil {
			urls, err = servers.URLs(t.Context())
		}
		if fmt.Sprint(urls) != test.want || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("got %s, %v, want %s, %s", urls, err, test.want, test.err)
		}
	}
}

// TestTheContextsSettingsAreForItsServers has one that the context does not know.
func TestTheContextsSettingsAreForItsServers(t *testing.T) {
	servers, err := newServers(t, nobody, one)
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
