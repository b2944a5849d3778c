// Package bootstrap manages the bootstrap tokens of a K3s or RKE2 cluster.
//
// A bootstrap token is a Secret of type bootstrap.kubernetes.io/token in the
// namespace kube-system. A Store creates, lists, extends and deletes tokens with
// client-go's typed client. It changes no Secret but that of the given token. An
// UncertainError says that a change may have been made.
//
// Token.Reveal returns the text that a node joins with. Package token computes the
// CA hash for it.
package bootstrap

import (
	"errors"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Namespace is the namespace of bootstrap tokens.
const Namespace = metav1.NamespaceSystem

// The extra groups that "k3s token create" and "rke2 token create" give a token
// (pkg/kubeadm/token.go in K3s).
const (
	GroupK3s  = "system:bootstrappers:k3s:default-node-token"
	GroupRKE2 = "system:bootstrappers:rke2:default-node-token"
)

// Token is a bootstrap token in a cluster, or one to be created there.
type Token struct {
	token.Token                   // the id and the secret; the cluster does not store the CA hash
	Expires     time.Time         // to the second; the zero time means never
	Usages      []string          // "authentication", which nodes need, and "signing"
	Groups      []string          // besides system:bootstrappers
	Description string            // any text
	Labels      map[string]string // of the Secret

	// The cluster sets these.

	SecretName      string
	UID             types.UID
	ResourceVersion string
	Created         time.Time
	Updated         time.Time // the last change, by the clock of the server
	Problem         string    // why the Secret is malformed, or empty
}

// Generate returns a random token.
func Generate() token.Token {
	s, _ := bootstraputil.GenerateBootstrapToken() // crypto/rand returns no error
	t, _ := token.ParseBootstrap(s)
	return t
}

// Validate returns an error if the id, the secret, a usage or a group is malformed. The
// id may be empty.
func (t *Token) Validate() error {
	errs := []error{bootstraputil.ValidateUsages(t.Usages)}
	if len(t.Usages) == 0 {
		errs = append(errs, errors.New("a bootstrap token needs at least one usage"))
	}
	for _, group := range t.Groups {
		errs = append(errs, bootstraputil.ValidateBootstrapGroupName(group))
	}
	if t.ID != "" {
		_, err := token.ParseBootstrap(t.WithCAHash("").Reveal())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Status is the state of a token at some time.
type Status string

// The states of a token.
const (
	Active   Status = "Active"
	Expired  Status = "Expired"  // the cluster removes it soon
	Unusable Status = "Unusable" // it lacks the usage authentication
	Invalid  Status = "Invalid"  // its Secret is malformed
)

// Status returns the state of the token, and the reason if it is Unusable or
// Invalid.
func (t *Token) Status(now time.Time) (status Status, reason string) {
	switch {
	case t.Problem != "":
		return Invalid, t.Problem
	case !t.Expires.IsZero() && !t.Expires.After(now):
		return Expired, ""
	case !slices.Contains(t.Usages, "authentication"):
		return Unusable, "no usage authentication"
	}
	return Active, ""
}
