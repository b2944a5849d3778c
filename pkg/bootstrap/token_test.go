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
)

// stored returns the Secret of a token as the cluster returns it.
func stored(key, value string) *corev1.Secret {
	secret := bootstrap.EncodeSecret(newToken("abcdef"))
	secret.UID, secret.ResourceVersion, secret.CreationTimestamp = "uid", "1", metav1.NewTime(now)
	if key != "" {
		secret.Data[key] = []byte(value)
	}
	return secret
}

func TestFromSecretReportsTheFirstProblem(t *testing.T) {
	deleted, opaque := stored("", ""), stored("", "")
	deleted.DeletionTimestamp = &metav1.Time{Time: now}
	opaque.Type = "Opaque"
	odd := stored("token-secret", "")
	odd.Name = "my-token"
	several := stored("token-secret", "short")
	several.Data["expiration"], several.Data["auth-extra-groups"] = []byte("x"), []byte("x")
	for name, test := range map[string]struct {
		secret *corev1.Secret
		want   string
	}{
		"good token":                 {stored("", ""), ""},
		"expiration in another zone": {stored("expiration", "2025-06-01T15:00:00+02:00"), ""},
		"being deleted":              {deleted, "Secret is being deleted"},
		"other type":                 {opaque, "type is not that of a bootstrap token"},
		"id of another token":        {stored("token-id", "ghijkl"), "token-id does not match the name"},
		"name without an id":         {odd, "name is not bootstrap-token-<id>"},
		"expiration without a zone":  {stored("expiration", "2025-06-01T13:00:00"), "expiration is not in RFC 3339"},
		"group of another kind":      {stored("auth-extra-groups", "system:masters"), "auth-extra-groups is invalid"},
		"several problems":           {several, "token-secret is not 16 of a-z and 0-9"},
	} {
		got := bootstrap.FromSecret(test.secret)
		status, reason := got.Status(now)
		if got.Problem != test.want || (status == bootstrap.Invalid) != (test.want != "") || reason != test.want {
			t.Errorf("%s: problem %q, status %s, reason %q; want %q", name, got.Problem, status, reason, test.want)
		}
		if got.SecretName != test.secret.Name || got.UID != "uid" {
			t.Errorf("%s: Secret %q with UID %q: the token cannot be deleted", name, got.SecretName, got.UID)
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
		`"a b"`:                 func(tok *bootstrap.Token) { tok.Labels = map[string]string{"a b": ""} },
		`group "y" is invalid`:  func(tok *bootstrap.Token) { tok.Groups = []string{"system:masters", "y"} },
	} {
		tok := newToken("abcdef")
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
