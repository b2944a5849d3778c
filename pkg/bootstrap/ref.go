package bootstrap

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
	bootstrapsecrets "k8s.io/cluster-bootstrap/util/secrets"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const refPrefix = "secret/"

// Ref refers to a token in the cluster by the name of its Secret. If the Ref has a
// secret, the token must have the same.
type Ref struct {
	SecretName string
	Secret     token.Secret
}

// ParseRef returns the reference in s: a token id, <id>.<secret>, the same in
// secure format, bootstrap-token-<id>, or secret/<name>. An error never quotes s,
// which may be a password.
func ParseRef(s string) (Ref, error) {
	name, qualified := strings.CutPrefix(s, refPrefix)
	_, standard := bootstrapsecrets.ParseName(name)
	switch {
	case standard, qualified && len(validation.IsDNS1123Subdomain(name)) == 0:
		return Ref{SecretName: name}, nil
	case bootstraputil.IsValidBootstrapTokenID(s):
		return Ref{SecretName: bootstraputil.BootstrapTokenSecretName(s)}, nil
	}
	t, err := token.Parse(s)
	if err != nil {
		return Ref{}, err
	}
	if err := t.Mistyped(); err != nil {
		return Ref{}, err
	}
	if t.ID == "" {
		return Ref{}, hint.New("not a bootstrap token", "use a token id, <id>.<secret>, a K10 token, or secret/<name>")
	}
	return Ref{bootstraputil.BootstrapTokenSecretName(t.ID), t.Secret}, nil
}

// String returns the token id, or secret/<name> if the name does not contain one.
// It never returns the secret.
func (r Ref) String() string {
	if id, ok := bootstrapsecrets.ParseName(r.SecretName); ok {
		return id
	}
	return refPrefix + r.SecretName
}
