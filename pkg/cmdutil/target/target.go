// Package target has the flags that verify and rotate share: the K3s servers, the
// token, and the trust in a server.
package target

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

// Flags are the flags of verify and rotate. --server and --token are those of "k3s
// token rotate", and not kubectl's flags of these names.
type Flags struct {
	URLs        []string
	AllServers  bool
	Token       string
	TokenFile   string
	TrustServer bool
}

// AddFlags adds the flags. which names the token, such as "the token to verify".
func (f *Flags) AddFlags(cmd *cobra.Command, which string) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.URLs, "server", "s", nil, "K3s server, such as https://k3s.example.com:6443; may be repeated. (default K3S_URL, or the context's server)")
	flags.BoolVar(&f.AllServers, "all-servers", false, "Ask all servers of the context's cluster, by the internal addresses of their nodes.")
	flags.VarP(cmdutil.NonEmpty(&f.Token), "token", "t", `Take `+which+` from the command line, or with "-" from standard input. (default `+cmdutil.EnvToken+`)`)
	flags.Var(cmdutil.NonEmpty(&f.TokenFile), "token-file", "File with "+which+".")
	flags.BoolVar(&f.TrustServer, "insecure-trust-server", false, "Send a token without a CA hash to a server that nothing identifies, as a joining node would.")
}

// Servers are the K3s servers that the flags name, and the context's cluster.
type Servers struct {
	Cluster *cluster.Cluster // nil if there is no usable kubeconfig

	named      []supervisor.URL // by --server or K3S_URL
	flags      *Flags
	timeout    time.Duration // --request-timeout
	clusterErr error         // why there is no cluster

	askCA sync.Once
	ca    cluster.CA
}

// Servers checks the flags. A kubeconfig that cannot be used is an error only once
// it is needed.
func (f *Flags) Servers(clients cmdutil.Clients) (*Servers, error) {
	named, err := cmdutil.GivenURLs("--server", f.URLs)
	if err != nil {
		return nil, err
	}
	s := &Servers{named: named, flags: f}
	if s.Cluster, s.clusterErr = clients.Cluster(); s.clusterErr != nil {
		return s, nil
	}
	s.timeout = s.Cluster.Config.Timeout
	if s.Cluster.Config.Host == clientcmd.ClusterDefaults.Server {
		s.Cluster, s.clusterErr = nil, errors.New("there is no kubeconfig context")
	}
	return s, nil
}

// URLs returns the servers that are named, or the context's, or with --all-servers
// all of both.
func (s *Servers) URLs(ctx context.Context) ([]supervisor.URL, error) {
	if len(s.named) > 0 && !s.flags.AllServers {
		return s.named, nil
	}
	if s.Cluster == nil {
		return nil, hint.Wrap(s.clusterErr, "name the servers with --server")
	}
	if !s.flags.AllServers {
		url, err := s.Cluster.SupervisorURL(ctx)
		return []supervisor.URL{url}, err
	}
	others, err := s.Cluster.ServerURLs(ctx)
	others = slices.DeleteFunc(others, func(url supervisor.URL) bool { return slices.Contains(s.named, url) })
	return slices.Concat(s.named, others), err
}

// Options returns the options for a connection to a server. The context's CA vouches
// for its own servers.
func (s *Servers) Options(server supervisor.URL) supervisor.Options {
	name, proxy := s.contextSettings(server)
	options := supervisor.Options{
		ContextCA:          func(ctx context.Context) []byte { return s.ContextCA(ctx).Bundle },
		TrustUnknownServer: s.flags.TrustServer,
		ServerName:         name,
		Proxy:              utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment),
		ProxyHint:          "check HTTPS_PROXY, or add the server to NO_PROXY",
		Timeout:            s.timeout,
	}
	if proxy != nil {
		options.Proxy, options.ProxyHint = proxy, "check proxy-url in the kubeconfig"
	}
	return options
}

// NotForNodes returns the context's settings for a server that nodes do not have.
func (s *Servers) NotForNodes(server supervisor.URL) (settings []string) {
	name, proxy := s.contextSettings(server)
	if name != "" {
		settings = append(settings, "tls-server-name")
	}
	if proxy != nil {
		settings = append(settings, "proxy-url")
	}
	return settings
}

// contextSettings returns the context's server name, if the server is the context's, and
// its proxy, if the server is of the context's cluster.
func (s *Servers) contextSettings(server supervisor.URL) (name string, proxy func(*http.Request) (*url.URL, error)) {
	if s.Cluster == nil {
		return "", nil
	}
	config := s.Cluster.Config
	api, err := url.Parse(config.Host)
	switch {
	case err == nil && api.Hostname() == server.Host():
		return config.ServerName, config.Proxy
	case slices.Contains(s.named, server):
		return "", nil
	}
	return "", config.Proxy
}

// ContextCA returns the CA of the context's cluster, or that of the kubeconfig if
// the API server does not tell. It asks once. The zero value means that the CA is not
// known.
func (s *Servers) ContextCA(ctx context.Context) cluster.CA {
	if s.Cluster == nil || s.Cluster.Config.Insecure {
		return cluster.CA{}
	}
	s.askCA.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var err error
		if s.ca, err = s.Cluster.CA(ctx); err != nil {
			s.ca, _ = s.Cluster.KubeconfigCA()
		}
	})
	return s.ca
}
