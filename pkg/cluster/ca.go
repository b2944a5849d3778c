package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// rootCA is the ConfigMap with the cluster's CA, which Kubernetes publishes in
	// each namespace. On K3s it holds the bytes of /cacerts.
	rootCA = "kube-root-ca.crt"

	hintCAFile = "pass --ca-file with a copy of the server's own file, server/tls/server-ca.crt in its data directory"

	noteUnverified = "the kubeconfig does not verify the server: compare the CA hash with the server's own, or pass --ca-file"
	noteOtherCA    = "the kubeconfig trusts another CA than the cluster's own, whose hash is used: a proxy is in front, or the CA was rotated"
	noteUnreadable = "ConfigMap kube-root-ca.crt cannot be read; the kubeconfig's CA is used, which is wrong behind a proxy or after a CA rotation"
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

// Distribution reads the distribution from the name of the CA: k3s-server-ca@
// or rke2-server-ca@ and a time (createSigningCertKey in K3s's
// pkg/daemons/control/deps/deps.go). A CA with another name, such as a custom
// one, tells nothing; it is Other.
func (ca CA) Distribution() supervisor.Distribution {
	certs, err := certutil.ParseCertsPEM(ca.Bundle)
	if err != nil {
		return supervisor.Other
	}
	return distribution(certs[0].Subject.CommonName, "-server-ca@")
}

// ReadCAFile reads the CA from a file, such as a copy of the server's
// server/tls/server-ca.crt.
func ReadCAFile(name string) (CA, error) {
	bundle, err := os.ReadFile(name) //nolint:gosec // the user names the file
	if err != nil {
		return CA{}, err
	}
	return newCA(name, bundle)
}

// CA returns the CA that joining nodes get from /cacerts.
//
// ConfigMap kube-root-ca.crt has its bytes. The kubeconfig's CA takes its place
// only if the user may not read the ConfigMap, or there is none: a tool may have
// re-wrapped its PEM, or it may be that of a proxy.
func (c *Cluster) CA(ctx context.Context) (CA, error) {
	trusted, trustedErr := c.KubeconfigCA()
	configMap, err := c.Client.ConfigMaps(metav1.NamespaceSystem).Get(ctx, rootCA, metav1.GetOptions{})
	unreadable := apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
	switch {
	case unreadable && trustedErr == nil:
		trusted.Note = noteUnreadable
		return trusted, nil
	case unreadable:
		return CA{}, &hintError{err, hintCAFile}
	case err != nil:
		return CA{}, err
	}
	ca, err := newCA("ConfigMap "+rootCA, []byte(configMap.Data["ca.crt"]))
	switch {
	case err != nil:
		return CA{}, &hintError{err, hintCAFile}
	case c.Config.Insecure:
		ca.Note = noteUnverified
	case trustedErr == nil && withoutSpace(trusted.Bundle) != withoutSpace(ca.Bundle):
		ca.Note = noteOtherCA
	}
	return ca, nil
}

// KubeconfigCA returns the CA that the kubeconfig trusts, with its white space
// repaired. It is the cluster's own unless the kubeconfig points at a proxy, or
// is older than the CA.
func (c *Cluster) KubeconfigCA() (CA, error) {
	config := rest.CopyConfig(c.Config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return CA{}, err
	}
	return newCA("the kubeconfig's CA", repairPEM(config.CAData))
}

func newCA(source string, bundle []byte) (CA, error) {
	hash, err := token.CAHash(bundle, time.Now())
	if err != nil {
		return CA{}, fmt.Errorf("%s: %w", source, err)
	}
	return CA{Bundle: bundle, Hash: hash}, nil
}

// repairPEM undoes what editors and templates do to the white space of a
// bundle: it returns the form in which K3s writes its CA file. A bundle that
// differs in more stays as it is, since a comment counts in the hash.
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
