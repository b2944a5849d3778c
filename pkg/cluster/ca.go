// Package cluster is what the plugin learns of a cluster before it acts: the
// CA certificates that a joining node will be shown, the address that it
// dials, and the version and kind of the server.
package cluster

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// rootCAConfigMap is where Kubernetes publishes the cluster's CA bundle,
	// in each namespace. On K3s it holds the bytes of /cacerts.
	rootCAConfigMap = "kube-root-ca.crt"
	rootCAKey       = "ca.crt"

	// maxBundle bounds a CA bundle, in bytes; K3s's own has a few thousand.
	maxBundle = 1 << 20
)

// CA is the bundle of CA certificates that joining nodes get from /cacerts.
type CA struct {
	// Bundle is the PEM data, byte by byte as the server shows it.
	Bundle []byte
	// Hash is the CA hash of a secure token.
	Hash string
	// Note says what a person should know of where the bundle comes from;
	// mostly empty.
	Note string
}

// Distribution tells who made the CA, by the name that K3s and RKE2 give their
// own: k3s-server-ca@<time> (createSigningCertKey in K3s's
// pkg/daemons/control/deps, and its script for custom CAs). It is Other for any
// other name, which says nothing.
func (ca CA) Distribution() Distribution {
	certs, err := token.ParseCertificates(ca.Bundle)
	if err != nil {
		return Other
	}
	switch name := certs[0].Subject.CommonName; {
	case strings.HasPrefix(name, "k3s-server-ca@"):
		return K3s
	case strings.HasPrefix(name, "rke2-server-ca@"):
		return RKE2
	}
	return Other
}

// NoCAError is returned where no source has the cluster's CA certificates.
type NoCAError struct {
	// ConfigMap is why ConfigMap kube-root-ca.crt did not give them.
	ConfigMap error
}

func (*NoCAError) Error() string {
	return "the CA hash cannot be computed, since neither the kubeconfig nor ConfigMap " + rootCAConfigMap + " in kube-system gives the cluster's CA certificates: " +
		"give a copy of the server's own file (server/tls/server-ca.crt in its data directory) with --ca-file"
}

// Unwrap returns why the ConfigMap did not give the certificates.
func (e *NoCAError) Unwrap() error { return e.ConfigMap }

// ReadCAFile takes the CA from a file, such as a copy of the server's
// server/tls/server-ca.crt. The bytes count as they are.
func ReadCAFile(name string, now time.Time) (CA, error) {
	bundle, err := readBundle(name)
	if err != nil {
		return CA{}, err
	}
	hash, err := token.CAHash(bundle, now)
	if err != nil {
		return CA{}, fmt.Errorf("%s: %w", name, err)
	}
	return CA{Bundle: bundle, Hash: hash}, nil
}

// FetchCA finds the bytes that a joining node will get from /cacerts.
//
// ConfigMap kube-root-ca.crt has them, read over the authenticated API; the
// kubeconfig has them too, unless a tool re-wrapped its PEM or it points at a
// proxy with certificates of its own. So the ConfigMap wins where it can be
// read, and the kubeconfig, its white space repaired, stands in where it
// cannot. It returns a *NoCAError where neither has them. The clock is asked
// once the server has answered.
func FetchCA(ctx context.Context, configMaps ConfigMaps, config *rest.Config, clock func() time.Time) (CA, error) {
	own, err := kubeconfigBundle(config)
	if err != nil {
		return CA{}, err
	}
	ownCerts, ownErr := token.ParseCertificates(own)

	configMap, err := configMaps.Get(ctx, rootCAConfigMap, metav1.GetOptions{})
	now := clock()
	if err != nil {
		// Only a plain no is a reason to go on with less.
		if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
			return CA{}, err
		}
		if ownErr != nil {
			return CA{}, &NoCAError{ConfigMap: err}
		}
		return inItsPlace(own, "cannot be read", now)
	}

	ca, err := fromConfigMap(configMap, now)
	if err != nil {
		if ownErr != nil {
			return CA{}, &NoCAError{ConfigMap: err}
		}
		return inItsPlace(own, "holds no CA certificates", now)
	}
	ca.Note = note(config, ca, ownCerts)
	return ca, nil
}

// inItsPlace takes the kubeconfig's CA because of what is wrong with the
// ConfigMap.
func inItsPlace(own []byte, wrong string, now time.Time) (CA, error) {
	ca, err := newCA(token.RepairPEM(own), now)
	ca.Note = fmt.Sprintf("ConfigMap %s in kube-system %s, so the CA hash is that of the kubeconfig's certificates: it is wrong where the kubeconfig points at a proxy", rootCAConfigMap, wrong)
	return ca, err
}

// KubeconfigCA returns the CA that the kubeconfig gives, its white space
// repaired. It is the cluster's own unless the kubeconfig points at a proxy.
func KubeconfigCA(config *rest.Config, now time.Time) (CA, error) {
	own, err := kubeconfigBundle(config)
	if err != nil {
		return CA{}, err
	}
	return newCA(token.RepairPEM(own), now)
}

// note says what is odd about the way to the cluster, if anything.
func note(config *rest.Config, ca CA, own []*x509.Certificate) string {
	if config.Insecure {
		return "the kubeconfig does not verify the server (insecure-skip-tls-verify), so the CA hash is whatever answered: compare it with the server's own, or give that with --ca-file"
	}
	certs, err := token.ParseCertificates(ca.Bundle)
	if err == nil && len(own) > 0 && !token.SameCertificates(own, certs) {
		return "the kubeconfig trusts other CA certificates than the cluster's own, so it points at a proxy or load balancer: the CA hash is the cluster's"
	}
	return ""
}

func fromConfigMap(configMap *corev1.ConfigMap, now time.Time) (CA, error) {
	bundle, ok := configMap.Data[rootCAKey]
	if !ok {
		return CA{}, fmt.Errorf("ConfigMap %s has no %s", rootCAConfigMap, rootCAKey)
	}
	return newCA([]byte(bundle), now)
}

func newCA(bundle []byte, now time.Time) (CA, error) {
	hash, err := token.CAHash(bundle, now)
	return CA{Bundle: bundle, Hash: hash}, err
}

// kubeconfigBundle returns the CA certificates that the kubeconfig gives, as
// data or as a file; nothing where it has none.
func kubeconfigBundle(config *rest.Config) ([]byte, error) {
	if len(config.CAData) > 0 || config.CAFile == "" {
		return config.CAData, nil
	}
	bundle, err := readBundle(config.CAFile)
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig's certificate-authority: %w", err)
	}
	return bundle, nil
}

// readBundle reads a file that may be a pipe, as in --ca-file <(ssh ...), and
// bounds what it takes from it.
func readBundle(name string) ([]byte, error) {
	file, err := os.Open(name) //nolint:gosec // reading the file that the user names is the point
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	bundle, err := io.ReadAll(io.LimitReader(file, maxBundle+1))
	if err == nil && len(bundle) > maxBundle {
		err = fmt.Errorf("%s is larger than any CA bundle (over %d bytes)", name, maxBundle)
	}
	return bundle, err
}
