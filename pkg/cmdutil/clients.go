package cmdutil

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// Clients makes the clients of a command from kubectl's flags. It opens no
// connection.
type Clients struct {
	// Cluster returns the cluster of the kubeconfig's context.
	Cluster func() (*cluster.Cluster, error)

	flags *genericclioptions.ConfigFlags
}

// NewClients returns the clients for the flags, whose warnings go to the streams.
func NewClients(flags *genericclioptions.ConfigFlags, streams Streams) Clients {
	return Clients{flags: flags, Cluster: sync.OnceValues(func() (*cluster.Cluster, error) {
		if namespace := *flags.Namespace; namespace != "" && namespace != bootstrap.Namespace {
			text := fmt.Sprintf("--namespace %s: bootstrap tokens live in %s alone", namespace, bootstrap.Namespace)
			return nil, hint.New(text, "leave --namespace out")
		}
		config, err := flags.ToRESTConfig()
		if err != nil {
			return nil, err
		}
		return newCluster(config, streams)
	})}
}

func newCluster(config *rest.Config, streams Streams) (*cluster.Cluster, error) {
	config.QPS = -1 // ForEach bounds the concurrent requests
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.WarningHandler = rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{
		Deduplicate: true, Color: printers.AllowsColorOutput(streams.ErrOut),
	})
	config.UserAgent = rest.DefaultKubernetesUserAgent()
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, err
	}
	warnIfExpired(config, streams)
	roundTripper, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	httpClient := &http.Client{Transport: transport{roundTripper}, Timeout: config.Timeout}
	client, err := corev1client.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, err
	}
	return &cluster.Cluster{Config: config, Client: client}, nil
}

// warnIfExpired warns of a client certificate that has expired. Those of K3s last a
// year, and the server says no more than "Unauthorized".
func warnIfExpired(config *rest.Config, streams Streams) {
	certificates, err := certutil.ParseCertsPEM(config.CertData)
	if err == nil && time.Now().After(certificates[0].NotAfter) {
		streams.Warnf("the kubeconfig's client certificate expired on %s; restart K3s, which renews it, and copy k3s.yaml again",
			certificates[0].NotAfter.Format(time.DateOnly))
	}
}

// transport adds checks that client-go lacks.
type transport struct{ next http.RoundTripper }

// RoundTrip gives up a request when its context ends, since client-go's login
// programs take no context. An answer that is not from a Kubernetes API is an error.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := Await(request.Context(), func() (*http.Response, error) { return t.next.RoundTrip(request) })
	if err != nil || isKubernetes(response) {
		return response, err
	}
	_ = response.Body.Close()
	return nil, hint.Wrap(fmt.Errorf("the answer (status %d) is not that of a Kubernetes API server", response.StatusCode),
		"check the server in the kubeconfig, and any proxy in between")
}

// isKubernetes is false for redirects, which would turn a DELETE into a GET, and for
// pages of proxies. The typed client takes any JSON object for the one it asked for, and
// does not look at the answer to a DELETE.
func isKubernetes(response *http.Response) bool {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	asked := response.Request.URL
	switch {
	case response.StatusCode >= http.StatusBadRequest:
		return true
	case response.StatusCode >= http.StatusMultipleChoices:
		return false
	case media != runtime.ContentTypeJSON:
		return strings.HasPrefix(media, runtime.ContentTypeProtobuf)
	case asked.Query().Has("watch") || strings.HasSuffix(asked.Path, "/version"): // has no kind
		return true
	}
	body := bufio.NewReader(response.Body)
	head, _ := body.Peek(64)
	response.Body = struct {
		io.Reader
		io.Closer
	}{body, response.Body}
	return bytes.Contains(head, []byte(`"kind":`))
}

// Tokens returns the bootstrap tokens of the cluster.
func (c Clients) Tokens() (*bootstrap.Store, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return nil, err
	}
	return bootstrap.NewStore(cluster.Client.Secrets(bootstrap.Namespace)), nil
}

// ClusterName names the cluster for a question to the user: the context and the
// server's address.
func (c Clients) ClusterName() string {
	cluster, err := c.Cluster()
	if err != nil {
		return "the cluster"
	}
	raw, _ := c.flags.ToRawKubeConfigLoader().RawConfig() // Cluster returns its error
	server, _ := url.Parse(cluster.Config.Host)           // which may hold a password
	return fmt.Sprintf("%s (%s)", cmp.Or(*c.flags.Context, raw.CurrentContext), server.Redacted())
}
