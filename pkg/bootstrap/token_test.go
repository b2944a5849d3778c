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

// The data is that of Secrets which "k3s token create" of v1.31.1+k3s1 wrote.
func TestEncodeSecretWritesWhatK3sWrites(t *testing.T) {
	minimal := map[string]string{"token-id": "abcdef", "token-secret": secretPart}
	defaults := map[string]string{
		"usage-bootstrap-authentication": "true",
		"usage-bootstrap-signing":        "true",
		"auth-extra-groups":              "system:bootstrappers:k3s:default-node-token",
	}
	expiration := map[string]string{"expiration": "2025-06-01T13:00:00Z"}
	for name, test := range map[string]struct {
		change func(*bootstrap.Token)
		want   []map[string]string
	}{
		"defaults":          {func(*bootstrap.Token) {}, []map[string]string{defaults, expiration}},
		"description":       {func(tok *bootstrap.Token) { tok.Description = "rack 7" }, []map[string]string{defaults, expiration, {"description": "rack 7"}}},
		"never expires":     {func(tok *bootstrap.Token) { tok.Expires = time.Time{} }, []map[string]string{defaults}},
		"no usages, groups": {func(tok *bootstrap.Token) { tok.Usages, tok.Groups = nil, nil }, []map[string]string{expiration}},
		"other zone":        {func(tok *bootstrap.Token) { tok.Expires = tok.Expires.In(time.FixedZone("", 5400)).Add(1) }, []map[string]string{defaults, expiration}},
	} {
		tok := newToken("abcdef")
		test.change(tok)
		want := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-abcdef", Namespace: "kube-system"},
			Type:       "bootstrap.kubernetes.io/token",
			Data:       map[string][]byte{},
		}
		for _, data := range append([]map[string]string{minimal}, test.want...) {
			for key, value := range data {
				want.Data[key] = []byte(value)
			}
		}
		if got := bootstrap.EncodeSecret(tok); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: Secret\n%v\nwant\n%v", name, got, want)
		}
	}
}

// stored returns the Secret of a token as the cluster returns it.
func stored(key, value string) *corev1.Secret {
	secret := bootstrap.EncodeSecret(newToken("abcdef"))
	secret.UID, secret.ResourceVersion, secret.CreationTimestamp = "uid", "1", metav1.NewTime(now)
	if key != "" {
		secret.Data[key] = []byte(value)
	}
	return secret
}

func TestFromSecretReadsWhatEncodeSecretWrites(t *testing.T) {
	want := newToken("abcdef")
	want.Description, want.Labels = "rack 7", map[string]string{"a": "b"}
	secret := bootstrap.EncodeSecret(want)
	secret.UID, secret.ResourceVersion, secret.CreationTimestamp = "uid", "1", metav1.NewTime(now)
	secret.Data["usage-bootstrap-other"] = []byte("false")
	for _, minutes := range []time.Duration{2, 5, 3} {
		secret.ManagedFields = append(secret.ManagedFields, metav1.ManagedFieldsEntry{Time: &metav1.Time{Time: now.Add(minutes * time.Minute)}})
	}
	secret.ManagedFields = append(secret.ManagedFields, metav1.ManagedFieldsEntry{})
	want.SecretName, want.UID, want.ResourceVersion = "bootstrap-token-abcdef", "uid", "1"
	want.Created, want.Updated = now, now.Add(5*time.Minute)
	if got := bootstrap.FromSecret(secret); !reflect.DeepEqual(got, want) {
		t.Errorf("token\n%#v\nwant\n%#v", got, want)
	}
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
		"empty expiration":           {stored("expiration", ""), ""},
		"expiration in another zone": {stored("expiration", "2025-06-01T15:00:00+02:00"), ""},
		"being deleted":              {deleted, "Secret is being deleted"},
		"other type":                 {opaque, "type is not that of a bootstrap token"},
		"no secret":                  {stored("token-secret", ""), "token-secret is not 16 of a-z and 0-9"},
		"secret in upper case":       {stored("token-secret", "0123456789ABCDEF"), "token-secret is not 16 of a-z and 0-9"},
		"id of another token":        {stored("token-id", "ghijkl"), "token-id does not match the name"},
		"name without an id":         {odd, "name is not bootstrap-token-<id>"},
		"expiration without a zone":  {stored("expiration", "2025-06-01T13:00:00"), "expiration is not in RFC 3339"},
		"group of another kind":      {stored("auth-extra-groups", "system:masters"), "auth-extra-groups is invalid"},
		"space between groups":       {stored("auth-extra-groups", bootstrap.GroupK3s+", "+bootstrap.GroupRKE2), "auth-extra-groups is invalid"},
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

func TestStatus(t *testing.T) {
	for name, test := range map[string]struct {
		token bootstrap.Token
		want  bootstrap.Status
	}{
		"later":                 {bootstrap.Token{Usages: []string{"authentication"}, Expires: now.Add(1)}, bootstrap.Active},
		"never":                 {bootstrap.Token{Usages: []string{"signing", "authentication"}}, bootstrap.Active},
		"now":                   {bootstrap.Token{Usages: []string{"authentication"}, Expires: now}, bootstrap.Expired},
		"without usage":         {bootstrap.Token{Usages: []string{"signing"}}, bootstrap.Unusable},
		"expired without usage": {bootstrap.Token{Expires: now}, bootstrap.Expired},
		"malformed and expired": {bootstrap.Token{Expires: now, Problem: "x"}, bootstrap.Invalid},
	} {
		if got, reason := test.token.Status(now); got != test.want || (reason != "") != (got == bootstrap.Unusable || got == bootstrap.Invalid) {
			t.Errorf("%s: status %s, reason %q; want %s", name, got, reason, test.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*bootstrap.Token)
		want   []string
	}{
		"defaults":        {func(*bootstrap.Token) {}, nil},
		"no id":           {func(tok *bootstrap.Token) { tok.ID, tok.Secret = "", "" }, nil},
		"no groups":       {func(tok *bootstrap.Token) { tok.Groups = nil }, nil},
		"CA hash":         {func(tok *bootstrap.Token) { tok.CAHash = "1" }, nil},
		"labels":          {func(tok *bootstrap.Token) { tok.Labels = map[string]string{"example.org/a": "b", "c": ""} }, nil},
		"malformed id":    {func(tok *bootstrap.Token) { tok.ID = "ABCDEF" }, []string{"invalid token id"}},
		"no secret":       {func(tok *bootstrap.Token) { tok.Secret = "" }, []string{"invalid token secret"}},
		"no usages":       {func(tok *bootstrap.Token) { tok.Usages = nil }, []string{"at least one usage"}},
		"unknown usage":   {func(tok *bootstrap.Token) { tok.Usages = []string{"signing", "Signing"} }, []string{"usage string: Signing"}},
		"malformed label": {func(tok *bootstrap.Token) { tok.Labels = map[string]string{"a b": "c d"} }, []string{`"a b"`, `"c d"`}},
		"several": {func(tok *bootstrap.Token) { tok.Usages, tok.Groups = []string{"x"}, []string{"system:masters", "y"} },
			[]string{"usage string: x", `group "system:masters"`, `group "y"`}},
	} {
		tok := newToken("abcdef")
		test.change(tok)
		err := tok.Validate()
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
		for _, want := range test.want {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: error %q, want it to say %q", name, err, want)
			}
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	tok := bootstrap.FromSecret(stored("", ""))
	r := ref(t, "abcdef."+secretPart)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, value := range []any{tok, *tok, bootstrap.List{Items: []*bootstrap.Token{tok}}, r, &r, []bootstrap.Ref{r}, struct{ R bootstrap.Ref }{r}} {
			printed := fmt.Sprintf(verb, value)
			if strings.Contains(printed, secretPart) || strings.Contains(printed, fmt.Sprintf("%x", secretPart)) {
				t.Errorf("%s of %T prints the secret", verb, value)
			}
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
