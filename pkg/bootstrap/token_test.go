package bootstrap_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const secretPart = "0123456789abcdef"

var now = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// newToken returns a token with the defaults of "k3s token create".
func newToken() *bootstrap.Token {
	return &bootstrap.Token{
		Token:   token.Token{ID: "abcdef", Secret: secretPart},
		Expires: now.Add(time.Hour),
		Usages:  []string{"authentication", "signing"},
		Groups:  []string{bootstrap.GroupK3s},
	}
}

// stored returns the Secret of that token as the cluster returns it, with another value.
func stored(key, value string) *corev1.Secret {
	secret := bootstrap.EncodeSecret(newToken())
	secret.UID, secret.ResourceVersion, secret.CreationTimestamp = "uid", "1", metav1.NewTime(now)
	if key != "" {
		secret.Data[key] = []byte(value)
	}
	return secret
}

func TestFromSecretReportsAProblem(t *testing.T) {
	deleted, odd := stored("", ""), stored("", "")
	deleted.DeletionTimestamp, odd.Name = &metav1.Time{Time: now}, "my-token"
	for want, secret := range map[string]*corev1.Secret{
		"":                                      stored("expiration", "2025-06-01T15:00:00+02:00"),
		"Secret is being deleted":               deleted,
		"name is not bootstrap-token-<id>":      odd,
		"token-id does not match the name":      stored("token-id", "ghijkl"),
		"token-secret is not 16 of a-z and 0-9": stored("token-secret", "short"),
		"expiration is not in RFC 3339":         stored("expiration", "2025-06-01T13:00:00"),
		"auth-extra-groups is invalid":          stored("auth-extra-groups", "system:masters"),
	} {
		status, reason := bootstrap.FromSecret(secret).Status(now)
		if reason != want || (status == bootstrap.Invalid) != (want != "") {
			t.Errorf("status %s, reason %q; want %q", status, reason, want)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*bootstrap.Token){
		"":                      func(tok *bootstrap.Token) { tok.ID, tok.Secret, tok.Groups = "", "", nil },
		"invalid token id":      func(tok *bootstrap.Token) { tok.ID = "ABCDEF" },
		"invalid token secret":  func(tok *bootstrap.Token) { tok.Secret = "" },
		"at least one usage":    func(tok *bootstrap.Token) { tok.Usages = nil },
		"usage string: Signing": func(tok *bootstrap.Token) { tok.Usages = []string{"signing", "Signing"} },
		`group "y" is invalid`:  func(tok *bootstrap.Token) { tok.Groups = []string{"system:masters", "y"} },
	} {
		tok := newToken()
		change(tok)
		if err := tok.Validate(); (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error %v, want it to say %q", err, want)
		}
	}
}

func FuzzFromSecret(f *testing.F) {
	printable := regexp.MustCompile(`^[a-zA-Z0-9 <>-]*$`)
	f.Fuzz(func(t *testing.T, name, id, secret, expiration, groups, usage, description string) {
		got := bootstrap.FromSecret(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"},
			Type:       "bootstrap.kubernetes.io/token",
			Data: map[string][]byte{
				"token-id": []byte(id), "token-secret": []byte(secret), "expiration": []byte(expiration), "auth-extra-groups": []byte(groups),
				"usage-bootstrap-authentication": []byte(usage), "description": []byte(description),
			},
		})
		if !printable.MatchString(got.Problem) {
			t.Fatalf("problem %q quotes the Secret", got.Problem)
		}
		if status, _ := got.Status(now); status == bootstrap.Invalid {
			return
		}
		again := bootstrap.FromSecret(bootstrap.EncodeSecret(got))
		if !again.Expires.Equal(got.Expires.Truncate(time.Second)) {
			t.Fatalf("expires %v, and %v when it is read again", got.Expires, again.Expires)
		}
		if again.Expires = got.Expires; !reflect.DeepEqual(again, got) {
			t.Fatalf("read again it is\n%#v\nwant\n%#v", again, got)
		}
	})
}
