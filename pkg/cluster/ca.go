package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// rootCA is the ConfigMap with the cluster's CA, which Kubernetes publishes in
	// each namespace. On K3s it holds the bytes of /cacerts.
	rootCA = "kube-root-ca.crt"

	hintCAFile = "pass --ca-file with a copy of the server's own file, server/tls/server-ca.crt in its data directory"

	noteUnverified = "the kubeconfig does not verify the server: compare the CA hash with the server's own, or pass --ca-file"
	noteOtherCA    = "the kubeconfig trusts another CA than the cluster's own, whose hash is used: a proxy is in front, or the CA was rotated"
	noteUnreadable = "neither ConfigMap kube-root-ca.crt nor /cacerts can be read; " +
		"the kubeconfig's CA is used, which is wrong behind a proxy or after a CA rotation"

	// These bound /cacerts, since there is another source if it fails.
	servedTimeout = 10 * time.Second
	maxServed     = 1 << 20
)

// CA is a bundle of CA certificates, as joining nodes get it from /cacerts.
type CA struct {
	// Bundle is the PEM data. Its literal bytes count in the hash.
	Bundle []byte
	// Hash is the CA hash of a token in secure format.
	Hash string
	// Note warns about the source of the bundle; it is mostly empty.
	Note string
}

// ReadCAFile reads the CA from the file of --ca-file, such as a copy of the server's
// server/tls/server-ca.crt.
func ReadCAFile(name string) (CA, error) {
	bundle, err := os.ReadFile(name) //nolint:gosec // the user names the file
	if err != nil {
		return CA{}, fmt.Errorf("--ca-file: %w", err)
	}
	return newCA("--ca-file: "+name, bundle)
}

// CA returns the CA that joining nodes get from /cacerts.
//
// ConfigMap kube-root-ca.crt has its bytes. If the user may not read it, or there is
// none, the server itself is asked. The kubeconfig's CA comes last: a tool may have
// re-wrapped its PEM, and it may be that of a proxy or from before a rotation.
func (c *Cluster) CA(ctx context.Context) (CA, error) {
	trusted, trustedErr := c.KubeconfigCA()
	ca, err := c.publishedCA(ctx)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		served, servedErr := c.servedCA(ctx)
		switch {
		case servedErr == nil:
			ca, err = served, nil
		case trustedErr == nil:
			trusted.Note = noteUnreadable
			return trusted, nil
		default:
			err = hint.Wrap(err, hintCAFile)
		}
	}
	switch {
	case err != nil:
		return CA{}, err
	case c.Config.Insecure:
		ca.Note = noteUnverified
	case trustedErr == nil && withoutSpace(trusted.Bundle) != withoutSpace(ca.Bundle):
		ca.Note = noteOtherCA
	}
	return ca, nil
}

// publishedCA reads the CA from the ConfigMap.
func (c *Cluster) publishedCA(ctx context.Context) (CA, error) {
	configMap, err := c.Client.ConfigMaps(metav1.NamespaceSystem).Get(ctx, rootCA, metav1.GetOptions{})
	if err != nil {
		return CA{}, err
	}
	return newCA("ConfigMap "+rootCA, []byte(configMap.Data["ca.crt"]))
}

// servedCA reads the CA from the supervisor's /cacerts, as nodes do, if the kubeconfig
// verifies the server.
func (c *Cluster) servedCA(ctx context.Context) (CA, error) {
	if c.Config.Insecure {
		return CA{}, errors.New("the kubeconfig does not verify the server")
	}
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	url, err := c.SupervisorURL(ctx)
	if err != nil {
		return CA{}, err // of a proxy such as Rancher, which has a /cacerts of its own
	}
	transport, err := rest.TransportFor(rest.AnonymousClientConfig(c.Config))
	if err != nil {
		return CA{}, err
	}
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, url.String()+"/cacerts", nil) // the URL is valid
	response, err := transport.RoundTrip(request)                                               // which follows no redirect
	if err != nil {
		return CA{}, err
	}
	defer response.Body.Close()
	bundle, err := io.ReadAll(io.LimitReader(response.Body, maxServed))
	if err != nil {
		return CA{}, err
	}
	return newCA("/cacerts", bundle)
}

// KubeconfigCA returns the CA that the kubeconfig trusts, with its white space
// repaired. It is the cluster's own unless the kubeconfig points at a proxy, or
// is older than the CA.
func (c *Cluster) KubeconfigCA() (CA, error) {
	return newCA("the kubeconfig's CA", repairPEM(c.Config.CAData))
}

func newCA(source string, bundle []byte) (CA, error) {
	hash, err := token.CAHash(bundle, time.Now())
	if err != nil {
		return CA{}, hint.Wrap(fmt.Errorf("%s: %w", source, err), hintCAFile)
	}
	return CA{Bundle: bundle, Hash: hash}, nil
}

// repairPEM repairs the white space of a bundle, which editors and templates change:
// it returns the form in which K3s writes its CA file. A bundle that differs in more
// stays as it is, since a comment counts in the hash.
func repairPEM(bundle []byte) []byte {
	certs, err := certutil.ParseCertsPEM(bundle)
	if err != nil {
		return bundle
	}
	canonical, err := certutil.EncodeCertificates(certs...)
	if err != nil || withoutSpace(bundle) != withoutSpace(canonical) {
		return bundle
	}
	return canonical
}

func withoutSpace(b []byte) string { return strings.Join(strings.Fields(string(b)), "") }
