package bootstrap

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
	bootstrapsecrets "k8s.io/cluster-bootstrap/util/secrets"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// EncodeSecret returns the Secret for the token, with the data that "k3s token
// create" writes (encodeTokenSecretData in K3s's pkg/kubeadm/utils.go).
func EncodeSecret(t *Token) *corev1.Secret {
	data := map[string][]byte{
		bootstrapapi.BootstrapTokenIDKey:     []byte(t.ID),
		bootstrapapi.BootstrapTokenSecretKey: []byte(t.Secret.Reveal()),
	}
	if t.Description != "" {
		data[bootstrapapi.BootstrapTokenDescriptionKey] = []byte(t.Description)
	}
	if !t.Expires.IsZero() {
		data[bootstrapapi.BootstrapTokenExpirationKey] = formatTime(t.Expires)
	}
	for _, usage := range t.Usages {
		data[bootstrapapi.BootstrapTokenUsagePrefix+usage] = []byte("true")
	}
	if len(t.Groups) > 0 {
		data[bootstrapapi.BootstrapTokenExtraGroupsKey] = []byte(strings.Join(t.Groups, ","))
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: bootstraputil.BootstrapTokenSecretName(t.ID), Namespace: Namespace, Labels: maps.Clone(t.Labels),
		},
		Type: bootstrapapi.SecretTypeBootstrapToken,
		Data: data,
	}
}

func formatTime(t time.Time) []byte { return []byte(t.UTC().Format(time.RFC3339)) }

// FromSecret returns the token in a Secret of type bootstrap.kubernetes.io/token. It
// never fails: a malformed token has a Problem instead.
func FromSecret(secret *corev1.Secret) *Token {
	data := func(key string) string { return bootstrapsecrets.GetData(secret, key) }
	t := &Token{Description: data(bootstrapapi.BootstrapTokenDescriptionKey), Labels: maps.Clone(secret.Labels)}
	t.ID, _ = bootstrapsecrets.ParseName(secret.Name) // by which the API server finds it
	t.Secret = token.Secret(data(bootstrapapi.BootstrapTokenSecretKey))
	t.Expires, _ = time.Parse(time.RFC3339, data(bootstrapapi.BootstrapTokenExpirationKey))
	for key, value := range secret.Data {
		if usage, ok := strings.CutPrefix(key, bootstrapapi.BootstrapTokenUsagePrefix); ok && string(value) == "true" {
			t.Usages = append(t.Usages, usage)
		}
	}
	slices.Sort(t.Usages)
	groups := data(bootstrapapi.BootstrapTokenExtraGroupsKey)
	if _, err := bootstrapsecrets.GetGroups(secret); err == nil && groups != "" {
		t.Groups = strings.Split(groups, ",")
	}
	t.setMetadata(secret)
	t.Problem = t.problemIn(secret)
	return t
}

// setMetadata sets the fields that the cluster decides.
func (t *Token) setMetadata(secret *corev1.Secret) {
	t.SecretName, t.UID = secret.Name, secret.UID
	t.ResourceVersion, t.Created = secret.ResourceVersion, secret.CreationTimestamp.Time
	t.Updated = t.Created
	for _, entry := range secret.ManagedFields {
		if entry.Time != nil && entry.Time.After(t.Updated) {
			t.Updated = entry.Time.Time
		}
	}
}

// problemIn returns why the API server rejects the token in a Secret, or "" (rules:
// plugin/pkg/auth/authenticator/token/bootstrap in Kubernetes). It does not quote
// the Secret, which may hold control characters.
func (t *Token) problemIn(secret *corev1.Secret) string {
	switch {
	case t.ID == "":
		return "name is not bootstrap-token-<id>"
	case secret.DeletionTimestamp != nil:
		return "Secret is being deleted"
	case !bootstraputil.IsValidBootstrapToken(t.Reveal()):
		return "token-secret is not 16 of a-z and 0-9"
	case bootstrapsecrets.GetData(secret, bootstrapapi.BootstrapTokenIDKey) != t.ID:
		return "token-id does not match the name"
	case len(secret.Data[bootstrapapi.BootstrapTokenExpirationKey]) > 0 && t.Expires.IsZero():
		return "expiration is not in RFC 3339"
	case len(secret.Data[bootstrapapi.BootstrapTokenExtraGroupsKey]) > 0 && t.Groups == nil:
		return "auth-extra-groups is invalid"
	}
	return ""
}
