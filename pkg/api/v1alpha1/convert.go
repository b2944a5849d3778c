package v1alpha1

import (
	"cmp"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// NewBootstrapToken returns the printed form of a token, without its secret. Of its
// texts, the description alone may hold control characters.
func NewBootstrapToken(t *bootstrap.Token, now time.Time) BootstrapToken {
	status, problem := t.Status(now)
	printed := BootstrapToken{
		ObjectMeta: metav1.ObjectMeta{
			Name:              t.SecretName,
			Namespace:         bootstrap.Namespace,
			Labels:            t.Labels,
			CreationTimestamp: metav1.NewTime(t.Created),
		},
		ID:          cmp.Or(t.ID, bootstrap.Ref{SecretName: t.SecretName}.String()),
		Groups:      t.Groups,
		Usages:      t.Usages,
		Description: printable(t.Description),
		Status:      string(status),
		Problem:     problem,
	}
	if !t.Expires.IsZero() {
		printed.Expires = new(metav1.NewTime(t.Expires.UTC()))
	}
	return printed
}

// NewBootstrapTokenList returns the printed form of tokens.
func NewBootstrapTokenList(tokens []*bootstrap.Token, now time.Time) *BootstrapTokenList {
	list := &BootstrapTokenList{Items: []BootstrapToken{}} // not null in JSON
	for _, t := range tokens {
		list.Items = append(list.Items, NewBootstrapToken(t, now))
	}
	return list
}

// NewTokenInfo returns the printed form of any token, without its secret.
func NewTokenInfo(t token.Token) *TokenInfo {
	info := &TokenInfo{
		WellFormed: true,
		Format:     "secure",
		Type:       string(t.Type()),
		ID:         t.ID,
		CAHash:     t.CAHash,
	}
	if t.CAHash == "" {
		info.Format = "short"
	}
	if err := t.Mistyped(); err != nil {
		info.Hint = "taken as a password, since as a bootstrap token it is malformed: " + err.Error()
	}
	return info
}

// printable replaces characters in text of others that would steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
