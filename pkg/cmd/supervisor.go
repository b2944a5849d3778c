package cmd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// The variables that K3s itself reads.
	envToken  = "K3S_TOKEN"
	envServer = "K3S_URL"

	flagTrustServer    = "insecure-trust-server"
	flagTrustSystemCAs = "trust-system-cas"

	// learnBound is how long the Kubernetes API may take to say what makes a
	// command of the supervisor better, and what it can mostly do without.
	learnBound = 10 * time.Second
)

// supervisorFlags are the flags of the commands that talk to K3s servers as a
// joining node does: to which servers, with which token, trusted how far.
// --server and --token take the place of kubectl's flags of these names.
type supervisorFlags struct {
	client         *clientFlags
	servers        []string
	allServers     bool
	token          string
	tokenFile      string
	trustServer    bool
	trustSystemCAs bool
}

// addFlags adds the flags. which says which token it is: "the token to verify".
func (f *supervisorFlags) addFlags(cmd *cobra.Command, which string) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.servers, "server", "s", nil, "K3s server as nodes dial it, such as https://k3s.example.com:6443; may be repeated. Not the Kubernetes API, as kubectl's flag of that name: that is the context's. (default "+envServer+", or the context's server)")
	flags.BoolVar(&f.allServers, "all-servers", false, "All server nodes (control plane, etcd) of the context's cluster, by their internal addresses.")
	flags.StringVarP(&f.token, "token", "t", "", capital(which)+`, as TOKEN; "-" reads it from standard input. Not a bearer token for the Kubernetes API, as kubectl's flag of that name. (default `+envToken+`)`)
	flags.StringVar(&f.tokenFile, "token-file", "", "File that holds "+which+".")
	flags.BoolVar(&f.trustServer, flagTrustServer, false, "Send a token without a CA hash to a server that nothing tells from an impostor, as a joining node would.")
	flags.BoolVar(&f.trustSystemCAs, flagTrustSystemCAs, false, "Trust a server that this computer's CA bundle vouches for, whatever the CA hash, as a joining node would.")
	must(cmd.RegisterFlagCompletionFunc("server", completeServers(f.client)))
	completeValues(cmd, "token")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// errNoToken says that no token was given, in any of the ways.
var errNoToken = fmt.Errorf(`no token given: pass a TOKEN, "-" to read it from standard input, --token-file or %s`, envToken)

// readToken returns the token that is given as an argument, as --token, in
// --token-file, or else in K3S_TOKEN; the first two may be "-" for standard
// input. It returns errNoToken where there is none.
func (f *supervisorFlags) readToken(env *Env, args []string) (token.Token, error) {
	given := slices.Clone(args)
	if f.token != "" {
		given = append(given, f.token)
	}
	var s string
	var err error
	switch {
	case len(given) > 1, len(given) == 1 && f.tokenFile != "":
		return token.Token{}, errors.New("the token is given twice: as TOKEN, --token or --token-file, choose one")
	case len(given) == 1:
		s, err = env.readToken(given[0])
	case f.tokenFile != "":
		s, err = readTokenFile(f.tokenFile)
	default:
		if s = env.getenv(envToken); s == "" {
			return token.Token{}, errNoToken
		}
	}
	if err != nil {
		return token.Token{}, err
	}
	t, err := token.Parse(s)
	if err != nil {
		return token.Token{}, fmt.Errorf("malformed token: %w", err)
	}
	return t, nil
}

// supervisors is the way to the K3s servers that the flags name.
type supervisors struct {
	env     *Env
	flags   *supervisorFlags
	options supervisor.Options
	named   []supervisor.URL // by --server or K3S_URL
	// conn is the way to the Kubernetes API of the context; nil where there is
	// no kubeconfig, which a secure token and a server URL can do without.
	conn *connection
}

// toSupervisors checks the flags and reads the kubeconfig. It opens no
// connection.
func (f *supervisorFlags) toSupervisors(env *Env) (*supervisors, error) {
	s := &supervisors{env: env, flags: f}
	given, source := f.servers, "--server"
	if url := env.getenv(envServer); len(given) == 0 && url != "" {
		given, source = []string{url}, envServer
	}
	for _, url := range given {
		parsed, err := supervisor.ParseURL(url)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		if !slices.Contains(s.named, parsed) {
			s.named = append(s.named, parsed)
		}
	}
	conn, err := f.client.connect()
	if err != nil {
		return nil, err
	}
	s.options = supervisor.Options{
		TrustSystemRoots: f.trustSystemCAs,
		Proxy:            conn.config.Proxy,
		UserAgent:        conn.config.UserAgent,
		Timeout:          conn.config.Timeout,
		Now:              env.Now,
		Sleep:            env.Sleep,
	}
	if s.options.Proxy == nil {
		s.options.Proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	if env.SystemCAs != nil {
		// Without them a server may be refused that a node would join.
		s.options.SystemRoots, _ = env.SystemCAs()
	}
	if conn.config.Host != clientcmd.ClusterDefaults.Server { // what stands in for a missing kubeconfig
		s.conn = conn
	}
	return s, nil
}

// errNoContext says that something needs a kubeconfig.
func errNoContext(flag string) error {
	return fmt.Errorf("there is no kubeconfig context to learn the servers of: name them with %s", flag)
}

// version asks the context's API server for its version.
func (s *supervisors) version(ctx context.Context) (cluster.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, learnBound)
	defer cancel()
	return cluster.FetchVersion(ctx, s.conn)
}

// servers returns the servers that --server or K3S_URL names, or else the
// context's own.
func (s *supervisors) servers(ctx context.Context) ([]supervisor.URL, error) {
	if len(s.named) > 0 {
		return s.named, nil
	}
	if s.conn == nil {
		return nil, errNoContext("--server")
	}
	server, err := contextURL(s.conn.config)
	if err != nil {
		return nil, fmt.Errorf("the context's server cannot be taken: %w; name the K3s server with --server", err)
	}
	// Who may not ask for the version can still be told what the server says
	// to a token. On RKE2 step 1 then names the port to try.
	version, err := s.version(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err == nil && version.Distribution() == cluster.RKE2 {
		server, err = supervisor.RKE2.URL(server.Host())
		return []supervisor.URL{server}, err
	}
	return []supervisor.URL{server}, nil
}

// contextURL is the address of the Kubernetes API, which K3s also answers
// joining nodes at.
func contextURL(config *rest.Config) (supervisor.URL, error) {
	host := config.Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	return supervisor.ParseURL(host)
}

// serverLabels returns the labels of nodes that run a server: the usual one,
// that of a server for etcd alone, and the only one of K3s before v1.20.
func serverLabels() []string {
	return []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd", "node-role.kubernetes.io/master"}
}

// controlPlane returns the addresses of all nodes of the context's cluster that
// run a server, in the order of their names.
func (s *supervisors) controlPlane(ctx context.Context) ([]supervisor.URL, error) {
	if s.conn == nil {
		return nil, errNoContext("--server instead of --all-servers")
	}
	var version cluster.Version
	var versionErr error
	var running sync.WaitGroup
	running.Go(func() { version, versionErr = s.version(ctx) })
	nodes, err := s.serverNodes(ctx)
	running.Wait()
	if err := errors.Join(err, versionErr); err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, errors.New("the cluster has no node with the role control-plane: name the servers with --server")
	}
	port := s.nodePort(version.Distribution())
	var urls []supervisor.URL
	for _, node := range nodes {
		url, err := supervisor.ParseURL("https://" + net.JoinHostPort(internalIP(node), port))
		if err != nil {
			return nil, fmt.Errorf("node %q has no internal IP address: name the servers with --server", node.Name)
		}
		if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls, nil
}

// serverNodes returns the nodes of the context's cluster that run a server, in
// the order of their names.
func (s *supervisors) serverNodes(ctx context.Context) ([]*corev1.Node, error) {
	labels := serverLabels()
	lists := make([][]*corev1.Node, len(labels))
	errs := make([]error, len(labels))
	var running sync.WaitGroup
	for i, label := range labels {
		running.Go(func() {
			_, errs[i] = s.conn.Nodes().List(ctx, metav1.ListOptions{LabelSelector: label}, func(node *corev1.Node) error {
				lists[i] = append(lists[i], node)
				return nil
			})
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	nodes := map[string]*corev1.Node{}
	for _, list := range lists {
		for _, node := range list {
			nodes[node.Name] = node
		}
	}
	sorted := make([]*corev1.Node, 0, len(nodes))
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		sorted = append(sorted, nodes[name])
	}
	return sorted, nil
}

// nodePort is where the servers of the context's cluster listen: K3s's servers
// all listen on one port, which is the context's, unless that leads through a
// load balancer on the port of https.
func (s *supervisors) nodePort(distribution cluster.Distribution) string {
	url, err := contextURL(s.conn.config)
	if distribution == cluster.RKE2 || err != nil || url.Port() == "443" {
		return distribution.SupervisorPort()
	}
	return url.Port()
}

func internalIP(node *corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}

// caSource returns the CA of the context's cluster. It asks for it once, however
// often it is called.
type caSource func() (cluster.CA, error)

// contextCA returns the source of the CA of the context's cluster.
func (s *supervisors) contextCA(ctx context.Context) caSource {
	return sync.OnceValues(func() (cluster.CA, error) {
		if s.conn == nil {
			return cluster.CA{}, errors.New("there is no kubeconfig context")
		}
		ctx, cancel := context.WithTimeout(ctx, learnBound)
		defer cancel()
		ca, err := cluster.FetchCA(ctx, s.conn.configMaps(), s.conn.config, s.now)
		if err == nil {
			return ca, nil
		}
		// An API that does not answer is no reason to forget what stands in
		// the kubeconfig.
		if own, ownErr := cluster.KubeconfigCA(s.conn.config, s.now()); ownErr == nil {
			return own, nil
		}
		return cluster.CA{}, err
	})
}

// standIn returns the hash of the context's CA, for a token that has none. A
// context that does not verify its own server vouches for nobody.
func (s *supervisors) standIn(contextCA caSource) (string, bool) {
	if s.conn == nil || s.conn.config.Insecure || !strings.HasPrefix(s.conn.config.Host, "https://") {
		return "", false
	}
	ca, err := contextCA()
	return ca.Hash, err == nil
}

// trusting has do speak to a server, with options for the token: do is
// supervisor.Connect or supervisor.Verify. The token's CA hash says which
// server is the right one. For a token that has none the context's CA stands
// in, where the server has the same; else the server is a stranger, who gets
// nothing without --insecure-trust-server.
func (s *supervisors) trusting(t token.Token, contextCA caSource, observe func(supervisor.Step), do func(supervisor.Options) error) error {
	opts := s.options
	opts.CAHash, opts.Observe = t.CAHash, observe
	if t.CAHash != "" {
		return explainTrust(do(opts))
	}
	if hash, ok := s.standIn(contextCA); ok {
		// What comes before the comparison is shown once, whoever it is.
		var held []supervisor.Step
		release := func() {
			for _, step := range held {
				observe(step)
			}
			held = nil
		}
		opts.CAHash = hash
		opts.Observe = func(step supervisor.Step) {
			if step.Number == supervisor.StepCompare && step.Status == supervisor.Passed {
				step.Detail = "the token has none; the server's is that of the context's cluster"
			}
			held = append(held, step)
			if step.Number >= supervisor.StepCompare && step.Status != supervisor.Failed {
				release()
			}
		}
		err := do(opts)
		var stranger *supervisor.HashMismatchError
		if !errors.As(err, &stranger) {
			release()
			return explainTrust(err)
		}
	}
	opts.CAHash, opts.Observe, opts.TrustUnknownServer = "", observe, s.flags.trustServer
	return explainTrust(do(opts))
}

// hintedError is an error with what can be done about it.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() + "; " + e.hint }
func (e *hintedError) Unwrap() error { return e.err }

// splitHint returns an error's text and what can be done about it.
func splitHint(err error) (text, hint string) {
	if hinted := new(hintedError); errors.As(err, &hinted) {
		return hinted.err.Error(), hinted.hint
	}
	return err.Error(), ""
}

// explainTrust adds what can be done about a server that is not trusted.
func explainTrust(err error) error {
	switch {
	case errors.Is(err, supervisor.ErrPubliclyTrusted):
		return &hintedError{err, "if that is what you want, add --" + flagTrustSystemCAs}
	case errors.Is(err, supervisor.ErrUnverified):
		return &hintedError{err, "use the token in secure format or a context of that cluster, or add --" + flagTrustServer}
	}
	return err
}

// completeServers offers the servers that stand in the kubeconfig.
func completeServers(client *clientFlags) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		raw, err := client.raw()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var offers []string
		for _, c := range raw.Clusters {
			if url, err := supervisor.ParseURL(c.Server); err == nil && !slices.Contains(offers, url.String()) {
				offers = append(offers, url.String())
			}
		}
		slices.Sort(offers)
		return offers, cobra.ShellCompDirectiveNoFileComp
	}
}
