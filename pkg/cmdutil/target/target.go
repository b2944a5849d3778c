// Package target is which K3s servers verify and rotate talk to, with which
// token, and how far they trust a server.
package target

import (
	"cmp"
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

// The variables that K3s itself reads.
const (
	envToken = "K3S_TOKEN"
	envURL   = "K3S_URL"
)

// lookupTimeout is for what verify and rotate can do without.
const lookupTimeout = 10 * time.Second

// ErrNoToken says that no token was given in any of the ways.
var ErrNoToken = cmdutil.WithHint(errors.New("no token given"), `give a TOKEN, "-" to read standard input, --token-file or %s`, envToken)

// Flags are the flags of verify and rotate. --server and --token are those of "k3s
// token rotate", and not kubectl's flags of these names.
type Flags struct {
	URLs        []string
	AllServers  bool
	Token       string
	TokenFile   string
	TrustServer bool
}

// AddFlags adds the flags. which is the token, such as "the token to verify".
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
	value := cmp.Or(f.Token, os.Getenv(envToken))
	var text string
	var err error
	switch {
	case len(args)+min(len(f.Token), 1)+min(len(f.TokenFile), 1) > 1:
		err = errors.New("the token is given twice: choose one of TOKEN, --token and --token-file")
	case len(args) == 1:
		text, err = streams.ReadToken(ctx, args[0])
	case f.TokenFile != "":
		text, err = cmdutil.ReadTokenFile(ctx, f.TokenFile)
	case value != "":
		text, err = streams.ReadToken(ctx, value)
	default:
		err = ErrNoToken
	}
	if err != nil {
		return token.Token{}, err
	}
	t, err := token.Parse(text)
	if err != nil {
		err = fmt.Errorf("malformed token: %w", err)
	}
	return t, err
}

// Servers are the K3s servers that the flags name, and the context's cluster.
type Servers struct {
	Named   []supervisor.URL // by --server or K3S_URL
	Cluster *cluster.Cluster // nil if there is no usable kubeconfig

	flags      *Flags
	timeout    time.Duration // --request-timeout
	clusterErr error         // why there is no cluster
}

// Servers checks the flags. A kubeconfig that cannot be used is an error only once
// it is needed.
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
	found, err := clients.Cluster()
	switch {
	case err != nil:
		s.clusterErr = err
		return s, nil
	case clients.HasConfig():
		s.Cluster = found
	}
	s.timeout = found.Config.Timeout
	return s, nil
}

// URLs returns the servers that are named, or the context's, or with --all-servers
// all of both.
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

// Options returns how to connect with a token. The context's CA vouches for its own
// servers if the token has no CA hash.
func (s *Servers) Options(ctx context.Context, t token.Token) supervisor.Options {
	options := supervisor.Options{
		CAHash:             t.CAHash,
		TrustUnknownServer: s.flags.TrustServer,
		Proxy:              utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment),
		UserAgent:          rest.DefaultKubernetesUserAgent(),
		Timeout:            s.timeout,
	}
	if s.Cluster == nil {
		return options
	}
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

// ContextCA returns the CA of the context's cluster, or that of the kubeconfig if
// the API server does not tell.
func (s *Servers) ContextCA(ctx context.Context) (cluster.CA, error) {
	if s.Cluster == nil {
		return cluster.CA{}, s.clusterErr
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if ca, err := s.Cluster.CA(ctx); err == nil {
		return ca, nil
	}
	return s.Cluster.KubeconfigCA()
}
