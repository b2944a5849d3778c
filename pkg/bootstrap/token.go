// Package bootstrap keeps bootstrap tokens in a cluster: it turns a Token into
// the Secret that K3s expects and back, and its Store creates, lists, extends
// and deletes them.
package bootstrap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Namespace is where bootstrap tokens live.
const Namespace = metav1.NamespaceSystem

// The usages of a bootstrap token. K3s itself makes no use of signing: the
// controller that would sign with it is switched off.
const (
	UsageAuthentication = "authentication"
	UsageSigning        = "signing"
)

// DefaultUsages are the usages that K3s gives a token.
func DefaultUsages() []string { return []string{UsageAuthentication, UsageSigning} }

// Token is a bootstrap token as the cluster keeps it.
type Token struct {
	// Token is the id and the secret; the CA hash is never set.
	token.Token
	// Expires is when the token ends, to the second; the zero time is never.
	Expires time.Time
	// Usages are what the token may be used for, sorted.
	Usages []string
	// Groups are the groups that its bearer is in, besides
	// system:bootstrappers.
	Groups []string
	// Description is free text.
	Description string

	// SecretName is the name of the Secret in Namespace.
	SecretName string
	// Created is when the cluster made the Secret.
	Created time.Time
	// Problem says why the cluster does not accept the token, however valid
	// it looks otherwise: a malformed Secret. Empty for a good token.
	Problem string

	uid             types.UID
	resourceVersion string
}

// Status is the state of a token at a time.
type Status string

// The states of a token.
const (
	// Active is a token that can be used.
	Active Status = "Active"
	// Expired is a token whose time is over. The server removes it soon.
	Expired Status = "Expired"
	// Invalid is a Secret of the right type that is no usable token.
	Invalid Status = "Invalid"
)

// Status returns the state of the token at that time.
func (t *Token) Status(now time.Time) Status {
	switch {
	case t.Problem != "":
		return Invalid
	case !t.Expires.IsZero() && !t.Expires.After(now):
		return Expired
	}
	return Active
}

// SecretName returns the name of the Secret that holds the token of that id.
func SecretName(id string) string { return bootstrapapi.BootstrapTokenSecretPrefix + id }

// Validate returns what the cluster would not accept: a group or a usage that
// does not exist. All complaints are in one error.
func (t *Token) Validate() error {
	var errs []error
	for _, usage := range t.Usages {
		if usage != UsageAuthentication && usage != UsageSigning {
			errs = append(errs, fmt.Errorf("unknown usage %q: use %s or %s", usage, UsageAuthentication, UsageSigning))
		}
	}
	if len(t.Usages) == 0 {
		errs = append(errs, fmt.Errorf("a token without a usage is good for nothing: use %s or %s", UsageAuthentication, UsageSigning))
	}
	for _, group := range t.Groups {
		if !isGroup(group) {
			errs = append(errs, fmt.Errorf("invalid group %q: a bootstrap token's group starts with system:bootstrappers: and goes on with a-z, 0-9, : and -, at most 256 of them, the last a letter or digit", group))
		}
	}
	return errors.Join(errs...)
}

// isGroup tells whether a bootstrap token may have that extra group, as
// ValidateBootstrapGroupName of k8s.io/cluster-bootstrap/token/util does: that
// package compiles regular expressions at each start of a program.
func isGroup(group string) bool {
	const longest = 256 // of what comes behind the prefix
	name, ok := strings.CutPrefix(group, bootstrapapi.BootstrapDefaultGroup+":")
	if !ok || name == "" || len(name) > longest || strings.ContainsAny(name[len(name)-1:], ":-") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != ':' && r != '-'
	})
}

// Secret returns the Secret for the token, with exactly the data that
// "k3s token create" writes (encodeTokenSecretData in K3s's pkg/kubeadm).
func (t *Token) Secret() *corev1.Secret {
	data := map[string][]byte{
		bootstrapapi.BootstrapTokenIDKey:     []byte(t.ID),
		bootstrapapi.BootstrapTokenSecretKey: []byte(t.Token.Secret.Reveal()),
	}
	if t.Description != "" {
		data[bootstrapapi.BootstrapTokenDescriptionKey] = []byte(t.Description)
	}
	if !t.Expires.IsZero() {
		data[bootstrapapi.BootstrapTokenExpirationKey] = []byte(formatTime(t.Expires))
	}
	for _, usage := range t.Usages {
		data[bootstrapapi.BootstrapTokenUsagePrefix+usage] = []byte("true")
	}
	if len(t.Groups) > 0 {
		data[bootstrapapi.BootstrapTokenExtraGroupsKey] = []byte(strings.Join(t.Groups, ","))
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName(t.ID), Namespace: Namespace},
		Type:       bootstrapapi.SecretTypeBootstrapToken,
		Data:       data,
	}
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// FromSecret returns the token that a Secret of the right type holds. It never
// fails: what is wrong with the Secret is the token's Problem, by the rules of
// the API server's authenticator (plugin/pkg/auth/authenticator/token/bootstrap
// in Kubernetes). What can be read is filled in all the same.
func FromSecret(secret *corev1.Secret) *Token {
	get := func(key string) string { return string(secret.Data[key]) }
	t := &Token{
		Token: token.Token{
			ID:     get(bootstrapapi.BootstrapTokenIDKey),
			Secret: token.Secret(get(bootstrapapi.BootstrapTokenSecretKey)),
		},
		Description:     get(bootstrapapi.BootstrapTokenDescriptionKey),
		SecretName:      secret.Name,
		Created:         secret.CreationTimestamp.Time,
		uid:             secret.UID,
		resourceVersion: secret.ResourceVersion,
	}
	for key, value := range secret.Data {
		if usage, ok := strings.CutPrefix(key, bootstrapapi.BootstrapTokenUsagePrefix); ok && string(value) == "true" {
			if t.Usages == nil {
				t.Usages = make([]string, 0, len(DefaultUsages()))
			}
			t.Usages = append(t.Usages, usage)
		}
	}
	slices.Sort(t.Usages)
	if groups := get(bootstrapapi.BootstrapTokenExtraGroupsKey); groups != "" {
		t.Groups = strings.Split(groups, ",")
	}

	// The first complaint is enough: each of them keeps the token from use.
	complain := func(format string, args ...any) {
		if t.Problem == "" {
			t.Problem = fmt.Sprintf(format, args...)
		}
	}
	switch {
	case secret.DeletionTimestamp != nil:
		complain("the Secret is being deleted")
	case t.ID == "":
		complain("token-id is missing")
	case !token.IsID(t.ID):
		complain("token-id is not six of a-z and 0-9")
	case secret.Name != SecretName(t.ID):
		complain("token-id does not match the name of the Secret")
	}
	if t.Token.Secret == "" {
		complain("token-secret is missing")
	} else if !token.IsSecret(t.Token.Secret) {
		complain("token-secret is not sixteen of a-z and 0-9")
	}
	if expiration := get(bootstrapapi.BootstrapTokenExpirationKey); expiration != "" {
		var err error
		if t.Expires, err = time.Parse(time.RFC3339, expiration); err != nil {
			complain("expiration is not a time in RFC 3339, such as 2030-01-31T12:00:00Z")
		} else if t.Expires.IsZero() {
			t.Expires = t.Expires.Add(1) // the zero time stands for never
		}
	}
	for _, group := range t.Groups {
		if !isGroup(group) {
			complain("auth-extra-groups has an invalid group")
		}
	}
	// The name is the handle of a Secret, so it wins where they disagree.
	t.ID = Ref{SecretName: secret.Name}.String()
	return t
}
