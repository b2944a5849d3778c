package cmd

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/spf13/pflag"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// clientFlags are kubectl's own flags, which every command takes.
type clientFlags struct {
	*genericclioptions.ConfigFlags
	env *Env
}

func newClientFlags(env *Env) *clientFlags {
	flags := genericclioptions.NewConfigFlags(true)
	flags.CacheDir = nil  // nothing does discovery, so nothing is cached
	flags.Namespace = nil // bootstrap tokens live in kube-system
	return &clientFlags{ConfigFlags: flags, env: env}
}

func (f *clientFlags) addFlags(flags *pflag.FlagSet) { f.AddFlags(flags) }

// connection is the way to one cluster.
type connection struct {
	config *rest.Config
	core   corev1client.CoreV1Interface
	// context names the kubeconfig context, for questions to the user.
	context string
}

// connect reads the kubeconfig and returns clients for its context. It opens
// no connection yet.
func (f *clientFlags) connect() (*connection, error) {
	config, err := f.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = fmt.Sprintf("kubectl-k3s_token/%s (%s/%s)", f.env.Build.Version, runtime.GOOS, runtime.GOARCH)
	config.ContentType = k8sruntime.ContentTypeProtobuf
	config.AcceptContentTypes = k8sruntime.ContentTypeProtobuf + "," + k8sruntime.ContentTypeJSON
	// The store bounds how many requests are under way; the server's own word
	// (429, Retry-After) bounds how many a second.
	config.QPS = -1
	config.WarningHandler = printableWarnings{rest.NewWarningWriter(f.env.ErrOut, rest.WarningWriterOptions{
		Deduplicate: true,
		Color:       printers.AllowsColorOutput(f.env.ErrOut),
	})}
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &connection{config: config, core: core, context: f.contextName()}, nil
}

// printableWarnings escapes the warnings of a server before they are shown.
type printableWarnings struct{ rest.WarningHandler }

// HandleWarningHeader implements rest.WarningHandler.
func (w printableWarnings) HandleWarningHeader(code int, agent, text string) {
	w.WarningHandler.HandleWarningHeader(code, agent, printable(text))
}

func (f *clientFlags) contextName() string {
	if *f.Context != "" {
		return *f.Context
	}
	raw, err := f.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	return raw.CurrentContext
}

// cluster names the cluster for a question to the user.
func (c *connection) cluster() string {
	if c.context == "" {
		return c.config.Host
	}
	return fmt.Sprintf("%s (%s)", c.context, c.config.Host)
}

func (f *clientFlags) contexts() ([]string, error) {
	raw, err := f.ToRawKubeConfigLoader().RawConfig()
	return slices.Collect(maps.Keys(raw.Contexts)), err
}

func (f *clientFlags) clusters() ([]string, error) {
	raw, err := f.ToRawKubeConfigLoader().RawConfig()
	return slices.Collect(maps.Keys(raw.Clusters)), err
}

func (f *clientFlags) users() ([]string, error) {
	raw, err := f.ToRawKubeConfigLoader().RawConfig()
	return slices.Collect(maps.Keys(raw.AuthInfos)), err
}
