// Package target is which K3s servers verify and rotate talk to, with which
// token, and how far they trust a server.
package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// The variables that K3s itself reads.
	envToken = "K3S_TOKEN"
	envURL   = "K3S_URL"

	// lookupTimeout is how long the Kubernetes API may take to tell what the
	// commands of the supervisor can do without.
	lookupTimeout = 10 * time.Second
)

// ErrNoToken says that no token was given in any of the ways.
var ErrNoToken = cmdutil.WithHint(errors.New("no token given"), `give a TOKEN, "-" to read standard input, --token-file or %s`, envToken)

// Flags are the flags of verify and rotate: which servers, which token,
// and how far to trust a server. --server and --token are those of "k3s token
// rotate", and not kubectl's flags of these names.
type Flags struct {
	URLs        []string
	AllServers  bool
	Token       string
	TokenFile   string
	TrustServer bool
}

// AddFlags adds the flags. which is the token that they take, such as "the token
// to verify".
func (f *Flags) AddFlags(cmd *cobra.Command, which string) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.URLs, "server", "s", nil, "K3s server, such as https://k3s.example.com:6443; may be repeated. (default "+envURL+", or the context's server)")
	flags.BoolVar(&f.AllServers, "all-servers", false, "Ask all servers of the context's cluster, by the internal addresses of their nodes.")
	flags.StringVarP(&f.Token, "token", "t", "", `The token itself: `+which+`, or "-" to read standard input. (default `+envToken+`)`)
	flags.StringVar(&f.TokenFile, "token-file", "", "File with "+which+".")
	flags.BoolVar(&f.TrustServer, "insecure-trust-server", false, "Send a token without a CA hash to a server that nothing identifies, as a joining node would.")
	cmdutil.CompleteValues(cmd, "server")
	cmdutil.CompleteValues(cmd, "token")
}

// ReadToken returns the token that is given as an argument, with --token, in
// --token-file or else in K3S_TOKEN, or ErrNoToken.
func (f *Flags) ReadToken(ctx context.Context, streams cmdutil.Streams, args []string) (token.Token, error) {
	given := slices.Clone(args)
	if f.Token != "" {
		given = append(given, f.Token)
	}
	var text string
	var err error
	switch {
	case len(given)+min(len(f.TokenFile), 1) > 1:
		return token.Token{}, errors.New("the token is given twice: choose one of TOKEN, --token and --token-file")
	case len(given) == 1:
		text, err = streams.ReadToken(ctx, given[0])
	case f.TokenFile != "":
		text, err = cmdutil.ReadTokenFile(ctx, f.TokenFile)
	case os.Getenv(envToken) != "":
		text, err = streams.ReadToken(ctx, os.Getenv(envToken))
	default:
		err = ErrNoToken
	}
	if err != nil {
		return token.Token{}, err
	}
	t, err := token.Parse(text)
	if err != nil {
		return token.Token{}, fmt.Errorf("malformed token: %w", err)
	}
	return t, nil
}

// Servers are the K3s servers that the flags name, and the cluster of the
// context, which knows more of them.
type Servers struct {
	// Named are those of --server or K3S_URL.
	Named []supervisor.URL
	// Cluster is nil if there is no usable kubeconfig.
	Cluster *cluster.Cluster

	flags      *Flags
	clusterErr error
}

// Servers checks the flags. It opens no connection. A kubeconfig that cannot be
// used is an error only once it is needed.
func (f *Flags) Servers(clients cmdutil.Clients) (*Servers, error) {
	s := &Servers{flags: f, clusterErr: errors.New("there is no kubeconfig context")}
	given, source := f.URLs, "--server"
	if url := os.Getenv(envURL); len(given) == 0 && url != "" {
		given, source = []string{url}, envURL
	}
	for _, text := range given {
		url, err := supervisor.ParseURL(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		if !slices.Contains(s.Named, url) {
			s.Named = append(s.Named, url)
		}
	}
	if found, err := clients.Cluster(); err != nil {
		s.clusterErr = err
	} else if clients.HasConfig() {
		s.Cluster = found
	}
	return s, nil
}

// URLs returns the servers to talk to: those that are named, all of the context's
// cluster with --all-servers, or the context's own.
func (s *Servers) URLs(ctx context.Context) ([]supervisor.URL, error) {
	if len(s.Named) > 0 && !s.flags.AllServers {
		return s.Named, nil
	}
	if s.Cluster == nil {
		return nil, cmdutil.WithHint(s.clusterErr, "name the servers with --server")
	}
	if !s.flags.AllServers {
		url, err := s.Cluster.SupervisorURL(ctx)
		return []supervisor.URL{url}, err
	}
	urls := slices.Clone(s.Named)
	all, err := s.Cluster.ServerURLs(ctx)
	for _, url := range all {
		if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls, err
}

// Options returns how to connect to a server with a token. For a token without a
// CA hash the CA of the context vouches for its own servers.
func (s *Servers) Options(ctx context.Context, t token.Token) supervisor.Options {
	options := supervisor.Options{
		CAHash:             t.CAHash,
		TrustUnknownServer: s.flags.TrustServer,
		Proxy:              utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment),
		UserAgent:          rest.DefaultKubernetesUserAgent(),
	}
	if s.Cluster == nil {
		return options
	}
	options.Timeout = s.Cluster.Config.Timeout
	if s.Cluster.Config.Proxy != nil {
		options.Proxy = s.Cluster.Config.Proxy
	}
	if t.CAHash == "" && !s.Cluster.Config.Insecure {
		if ca, err := s.ContextCA(ctx); err == nil {
			options.ContextCAHash = ca.Hash
		}
	}
	return options
}

// ContextCA returns the CA of the context's cluster. An API server that does not
// answer is no reason to forget the CA in the kubeconfig.
func (s *Servers) ContextCA(ctx context.Context) (cluster.CA, error) {
	if s.Cluster == nil {
		return cluster.CA{}, s.clusterErr
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ca, err := s.Cluster.CA(ctx)
	if err == nil {
		return ca, nil
	}
	if own, ownErr := s.Cluster.KubeconfigCA(); ownErr == nil {
		return own, nil
	}
	return cluster.CA{}, err
}
