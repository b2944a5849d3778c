package cmd

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/kube"
)

// clientFlags are kubectl's own flags, which every command takes. They are
// those of genericclioptions.ConfigFlags, which would bring kustomize,
// discovery and the types of all API groups along: docs/size.md.
type clientFlags struct {
	env        *Env
	kubeconfig string
	overrides  clientcmd.ConfigOverrides
	userExtra  []string

	disableCompression bool
}

func newClientFlags(env *Env) *clientFlags {
	return &clientFlags{env: env, overrides: clientcmd.ConfigOverrides{ClusterDefaults: clientcmd.ClusterDefaults}}
}

func (f *clientFlags) addFlags(flags *pflag.FlagSet) {
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace = clientcmd.FlagInfo{} // bootstrap tokens live in kube-system
	names.AuthOverrideFlags.Username = clientcmd.FlagInfo{}     // Kubernetes v1.19 has removed basic authentication
	names.AuthOverrideFlags.Password = clientcmd.FlagInfo{}
	names.AuthOverrideFlags.Impersonate.Description = "Username to impersonate for the operation. User could be a regular user or a service account in a namespace."
	names.AuthOverrideFlags.ImpersonateUID.Description = "UID to impersonate for the operation."
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	names.ClusterOverrideFlags.TLSServerName.Description = "Server name to use for server certificate validation. If it is not provided, the hostname used to contact the server is used"
	// A default of its own would make every configuration differ from the
	// defaults, and those alone give way to a Pod's own.
	compression := names.ClusterOverrideFlags.DisableCompression
	names.ClusterOverrideFlags.DisableCompression = clientcmd.FlagInfo{}
	names.ClusterOverrideFlags.ProxyURL.Description = "Proxy URL to use for requests to the API server"
	clientcmd.BindOverrideFlags(&f.overrides, flags, names)
	// Compressing costs the server more than a local network takes for the
	// rest, and lists of less than 128 KiB are never compressed.
	flags.BoolVar(&f.disableCompression, compression.LongName, true, compression.Description)
	flags.StringVar(&f.kubeconfig, clientcmd.RecommendedConfigPathFlag, "", "Path to the kubeconfig file to use for CLI requests.")
	flags.StringArrayVar(&f.userExtra, "as-user-extra", nil, "User extras to impersonate for the operation, this flag can be repeated to specify multiple values for the same key.")
}

// loader reads the kubeconfig as kubectl does, on demand.
func (f *clientFlags) loader() (clientcmd.ClientConfig, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	// Only a configuration that equals the defaults gives way to a Pod's own.
	rules.DefaultClientConfig = &clientcmd.DefaultClientConfig
	overrides := f.overrides
	for _, extra := range f.userExtra {
		key, value, ok := strings.Cut(extra, "=")
		if !ok {
			return nil, fmt.Errorf("--as-user-extra %q: write it as <key>=<value>", extra)
		}
		if overrides.AuthInfo.ImpersonateUserExtra == nil {
			overrides.AuthInfo.ImpersonateUserExtra = map[string][]string{}
		}
		overrides.AuthInfo.ImpersonateUserExtra[key] = append(overrides.AuthInfo.ImpersonateUserExtra[key], value)
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &overrides), nil
}

// connection is the way to one cluster.
type connection struct {
	*kube.Client
	config *rest.Config
	// context names the kubeconfig context, for questions to the user.
	context string
	clock   *serverClock
}

// connect reads the kubeconfig and returns clients for its context. It opens
// no connection yet.
func (f *clientFlags) connect() (*connection, error) {
	loader, err := f.loader()
	if err != nil {
		return nil, err
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = fmt.Sprintf("kubectl-k3s_token/%s (%s/%s)", f.env.Build.Version, runtime.GOOS, runtime.GOARCH)
	// The store bounds how many requests are under way; the server's own word
	// (429, Retry-After) bounds how many a second.
	config.QPS = -1
	config.DisableCompression = f.disableCompression
	config.WarningHandler = printableWarnings{rest.NewWarningWriter(f.env.ErrOut, rest.WarningWriterOptions{
		Deduplicate: true,
		Color:       printers.AllowsColorOutput(f.env.ErrOut),
	})}
	clock := newServerClock(f.env)
	config.Wrap(smallWindow)
	config.Wrap(clock.Observe)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return boundedWait{next, f.env.Now} })
	plain := rest.CopyConfig(config) // a wrapped one would hold on to itself
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return expiredLogin{next, plain, f.env, &sync.Once{}}
	})
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return notSilent{next, silenceBound} })
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	if config.ExecProvider != nil || config.AuthProvider != nil {
		transport.Transport = interruptibleTransport{transport.Transport}
	}
	client, err := kube.NewClient(config, transport)
	if err != nil {
		return nil, err
	}
	conn := &connection{Client: client, config: config, context: f.overrides.CurrentContext, clock: clock}
	if raw, err := loader.RawConfig(); err == nil && conn.context == "" {
		conn.context = raw.CurrentContext
	}
	return conn, nil
}

// smallWindow bounds how much of an answer lies in memory before it is read:
// HTTP/2 would take 4 MiB, which a server on the local network fills at once,
// and the garbage collector doubles. What is left carries 10 MiB a second over
// a way of 100 ms.
func smallWindow(transport http.RoundTripper) http.RoundTripper {
	next := transport
	for {
		switch t := next.(type) {
		case utilnet.RoundTripperWrapper:
			next = t.WrappedRoundTripper()
			continue
		case *http.Transport:
			settings.Lock()
			defer settings.Unlock()
			if t.HTTP2 == nil {
				t.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 20}
			}
		}
		return transport
	}
}

// settings guards those of transports: the client library gives one transport to
// all clients of one configuration. Each has it set before it sends anything.
var settings sync.Mutex

// tokens returns the store of the cluster's bootstrap tokens.
func (c *connection) tokens() *bootstrap.Store {
	return bootstrap.NewStore(c.Secrets(bootstrap.Namespace))
}

// configMaps returns the client for the ConfigMaps in kube-system.
func (c *connection) configMaps() cluster.ConfigMaps { return c.ConfigMaps(metav1.NamespaceSystem) }

// printableWarnings escapes the warnings of a server before they are shown.
type printableWarnings struct{ rest.WarningHandler }

// HandleWarningHeader implements rest.WarningHandler.
func (w printableWarnings) HandleWarningHeader(code int, agent, text string) {
	w.WarningHandler.HandleWarningHeader(code, agent, printable(hideSecrets(text)))
}

// cluster names the cluster for a question to the user.
func (c *connection) cluster() string {
	host := hideSecrets(c.config.Host)
	if c.context == "" {
		return host
	}
	return fmt.Sprintf("%s (%s)", c.context, host)
}

// raw returns the kubeconfig as it stands in its files.
func (f *clientFlags) raw() (clientcmdapi.Config, error) {
	loader, err := f.loader()
	if err != nil {
		return clientcmdapi.Config{}, err
	}
	return loader.RawConfig()
}

func (f *clientFlags) contexts() ([]string, error) {
	raw, err := f.raw()
	return slices.Collect(maps.Keys(raw.Contexts)), err
}

func (f *clientFlags) clusters() ([]string, error) {
	raw, err := f.raw()
	return slices.Collect(maps.Keys(raw.Clusters)), err
}

func (f *clientFlags) users() ([]string, error) {
	raw, err := f.raw()
	return slices.Collect(maps.Keys(raw.AuthInfos)), err
}
