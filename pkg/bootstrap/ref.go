package bootstrap

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Ref names a token in the cluster, the way a person has it at hand.
type Ref struct {
	// SecretName is the name of the token's Secret.
	SecretName string
	// secret is the secret part, where the person gave it: it must then be
	// the stored one's.
	secret token.Secret
}

// String names the token by its id, or by its Secret where the name has none,
// so that ParseRef reads it again.
func (r Ref) String() string {
	if id, ok := strings.CutPrefix(r.SecretName, bootstrapapi.BootstrapTokenSecretPrefix); ok && token.IsID(id) {
		return id
	}
	return "secret/" + r.SecretName
}

// Format prints what String returns, whatever the verb: fmt would show the
// secret part, since it cannot call the methods of a field that is not
// exported.
func (r Ref) Format(f fmt.State, verb rune) {
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), r.String())
}

// ParseRef reads a token's id, id.secret, whole K10 token, Secret name, or
// secret/<name>. Its errors never show what was read: it may be a password.
func ParseRef(s string) (Ref, error) {
	if name, ok := strings.CutPrefix(s, "secret/"); ok {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			return Ref{}, errors.New("what follows secret/ is no name of a Secret")
		}
		return Ref{SecretName: name}, nil
	}
	if id, ok := strings.CutPrefix(s, bootstrapapi.BootstrapTokenSecretPrefix); ok {
		if len(validation.IsDNS1123Subdomain(s)) > 0 || !token.IsID(id) {
			return Ref{}, fmt.Errorf("what follows %s is no token id; for a Secret with such a name write secret/<name>", bootstrapapi.BootstrapTokenSecretPrefix)
		}
		return Ref{SecretName: s}, nil
	}
	if token.IsID(s) {
		return Ref{SecretName: SecretName(s)}, nil
	}
	t, err := token.Parse(s)
	switch {
	case err != nil:
		return Ref{}, err
	case t.Type() == token.Bootstrap:
		return Ref{SecretName: SecretName(t.ID), secret: t.Secret}, nil
	case t.Type() == token.Password:
		return Ref{}, errors.New("it is neither a token id, nor <id>.<secret>, a K10 token, bootstrap-token-<id>, or secret/<name>")
	}
	return Ref{}, fmt.Errorf("it is the %s token, which is no Secret in the cluster: this command takes bootstrap tokens", t.Type())
}

// ErrOtherSecret is returned where a person gave a token whose id exists in
// the cluster with another secret part.
var ErrOtherSecret = errors.New("its secret is not the one that this cluster has for that id: is the token another cluster's?")

// check tells whether a Secret is the token that the Ref names.
func (r Ref) check(secret *corev1.Secret) error {
	if secret.Type != bootstrapapi.SecretTypeBootstrapToken {
		return fmt.Errorf("secret %q is of type %q, not a bootstrap token", secret.Name, secret.Type)
	}
	stored := secret.Data[bootstrapapi.BootstrapTokenSecretKey]
	if r.secret != "" && subtle.ConstantTimeCompare([]byte(r.secret.Reveal()), stored) != 1 {
		return ErrOtherSecret
	}
	return nil
}
