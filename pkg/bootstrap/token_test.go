package bootstrap_test

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	secretPart   = "0123456789abcdef"
	defaultGroup = "system:bootstrappers:k3s:default-node-token"
)

var now = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// newToken returns a token as create makes it.
func newToken(id string) *bootstrap.Token {
	return &bootstrap.Token{
		Token:   token.Token{ID: id, Secret: secretPart},
		Expires: now.Add(time.Hour),
		Usages:  bootstrap.DefaultUsages(),
		Groups:  []string{defaultGroup},
	}
}

func text(data map[string][]byte) map[string]string {
	texts := map[string]string{}
	for key, value := range data {
		texts[key] = string(value)
	}
	return texts
}

// TestSecretHoldsWhatK3sWrites has the data of Secrets that "k3s token create"
// of v1.31.1+k3s1 wrote, with these flags.
func TestSecretHoldsWhatK3sWrites(t *testing.T) {
	everything := newToken("abcdef")
	everything.Description = "rack 7"
	forever := newToken("abcdef")
	forever.Expires = time.Time{}
	bare := &bootstrap.Token{Token: token.Token{ID: "abcdef", Secret: secretPart}}
	elsewhere := newToken("abcdef")
	elsewhere.Expires = elsewhere.Expires.In(time.FixedZone("UTC+5:30", 5*3600+1800)).Add(999 * time.Millisecond)
	groups := newToken("abcdef")
	groups.Usages = []string{bootstrap.UsageSigning}
	groups.Groups = []string{"system:bootstrappers:b", "system:bootstrappers:a"}

	base := map[string]string{"token-id": "abcdef", "token-secret": secretPart}
	usual := map[string]string{
		"usage-bootstrap-authentication": "true",
		"usage-bootstrap-signing":        "true",
		"auth-extra-groups":              defaultGroup,
	}
	with := func(more ...map[string]string) map[string]string {
		all := maps.Clone(base)
		for _, m := range more {
			maps.Copy(all, m)
		}
		return all
	}
	expires := map[string]string{"expiration": "2025-06-01T13:00:00Z"}
	tests := map[string]struct {
		token *bootstrap.Token
		data  map[string]string
	}{
		"defaults":                         {newToken("abcdef"), with(usual, expires)},
		"description":                      {everything, with(usual, expires, map[string]string{"description": "rack 7"})},
		"ttl 0 has no expiration":          {forever, with(usual)},
		"no usages and no groups":          {bare, base},
		"another time zone becomes UTC":    {elsewhere, with(usual, expires)},
		"groups stay in their given order": {groups, with(expires, map[string]string{"usage-bootstrap-signing": "true", "auth-extra-groups": "system:bootstrappers:b,system:bootstrappers:a"})},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := test.token.Secret()
			if !maps.Equal(text(got.Data), test.data) {
				t.Errorf("data\n%v\nwant\n%v", text(got.Data), test.data)
			}
			if got.Name != "bootstrap-token-abcdef" || got.Namespace != "kube-system" || got.Type != "bootstrap.kubernetes.io/token" {
				t.Errorf("it is Secret %s/%s of type %s", got.Namespace, got.Name, got.Type)
			}
			got.Name, got.Namespace, got.Type, got.Data = "", "", "", nil
			if !reflect.DeepEqual(got, &corev1.Secret{}) {
				t.Errorf("it has more than name, type and data: %v", got)
			}
		})
	}
}

// stored returns the Secret of a good token, changed.
func stored(change func(*corev1.Secret)) *corev1.Secret {
	secret := newToken("abcdef").Secret()
	secret.UID, secret.ResourceVersion = "uid", "1"
	secret.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
	if change != nil {
		change(secret)
	}
	return secret
}

func set(key, value string) func(*corev1.Secret) {
	return func(secret *corev1.Secret) { secret.Data[key] = []byte(value) }
}

func without(key string) func(*corev1.Secret) {
	return func(secret *corev1.Secret) { delete(secret.Data, key) }
}

func TestFromSecretSaysWhyATokenIsInvalid(t *testing.T) {
	tests := map[string]struct {
		change  func(*corev1.Secret)
		problem string
	}{
		"good token":                       {nil, ""},
		"no expiration":                    {without("expiration"), ""},
		"empty expiration":                 {set("expiration", ""), ""},
		"expiration in another zone":       {set("expiration", "2025-06-01T13:00:00+02:00"), ""},
		"no usages":                        {without("usage-bootstrap-authentication"), ""},
		"no groups":                        {without("auth-extra-groups"), ""},
		"unknown data":                     {set("something", "else"), ""},
		"no data":                          {func(s *corev1.Secret) { s.Data = nil }, "token-id is missing"},
		"no id":                            {without("token-id"), "token-id is missing"},
		"empty id":                         {set("token-id", ""), "token-id is missing"},
		"id in upper case":                 {set("token-id", "ABCDEF"), "token-id is not six of a-z and 0-9"},
		"short id":                         {set("token-id", "abcde"), "token-id is not six of a-z and 0-9"},
		"id of another token":              {set("token-id", "ghijkl"), "token-id does not match the name of the Secret"},
		"name of another token":            {func(s *corev1.Secret) { s.Name = "bootstrap-token-ghijkl" }, "token-id does not match the name of the Secret"},
		"name without the prefix":          {func(s *corev1.Secret) { s.Name = "abcdef" }, "token-id does not match the name of the Secret"},
		"no secret":                        {without("token-secret"), "token-secret is missing"},
		"empty secret":                     {set("token-secret", ""), "token-secret is missing"},
		"short secret":                     {set("token-secret", secretPart[1:]), "token-secret is not sixteen of a-z and 0-9"},
		"secret in upper case":             {set("token-secret", "0123456789ABCDEF"), "token-secret is not sixteen of a-z and 0-9"},
		"secret with a newline":            {set("token-secret", secretPart+"\n"), "token-secret is not sixteen of a-z and 0-9"},
		"expiration that is no time":       {set("expiration", "tomorrow"), "expiration is not a time in RFC 3339"},
		"expiration without a zone":        {set("expiration", "2025-06-01T13:00:00"), "expiration is not a time in RFC 3339"},
		"expiration in Unix time":          {set("expiration", "1748782800"), "expiration is not a time in RFC 3339"},
		"group of another kind":            {set("auth-extra-groups", "system:masters"), "auth-extra-groups has an invalid group"},
		"one group of two":                 {set("auth-extra-groups", defaultGroup+",system:masters"), "auth-extra-groups has an invalid group"},
		"blank behind the comma of groups": {set("auth-extra-groups", defaultGroup+", "+defaultGroup), "auth-extra-groups has an invalid group"},
		"final comma of groups":            {set("auth-extra-groups", defaultGroup+","), "auth-extra-groups has an invalid group"},
		"the first of several": {func(s *corev1.Secret) {
			s.Data = map[string][]byte{"token-secret": []byte("x"), "expiration": []byte("x")}
		}, "token-id is missing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := bootstrap.FromSecret(stored(test.change))
			if !strings.HasPrefix(got.Problem, test.problem) || test.problem == "" && got.Problem != "" {
				t.Errorf("problem %q, want %q", got.Problem, test.problem)
			}
			if (got.Status(now) == bootstrap.Invalid) != (test.problem != "") {
				t.Errorf("status %s with problem %q", got.Status(now), got.Problem)
			}
		})
	}
}

func TestFromSecretFillsInWhatItCanRead(t *testing.T) {
	got := bootstrap.FromSecret(stored(func(s *corev1.Secret) {
		s.Name = "bootstrap-token-ghijkl"
		s.Data["description"] = []byte("rack 7")
		s.Data["expiration"] = []byte("2025-06-01T15:00:00+02:00")
		s.Data["usage-bootstrap-other"] = []byte("true")
		s.Data["usage-bootstrap-signing"] = []byte("TRUE")
		s.Data["auth-extra-groups"] = []byte("system:bootstrappers:b,system:bootstrappers:a")
	}))
	if got.ID != "ghijkl" || got.SecretName != "bootstrap-token-ghijkl" {
		t.Errorf("id %q of Secret %q: the name of the Secret wins", got.ID, got.SecretName)
	}
	if got.Token.Secret.Reveal() != secretPart || got.Description != "rack 7" {
		t.Errorf("secret part or description are not those of the Secret: %q", got.Description)
	}
	if !got.Expires.Equal(now.Add(time.Hour)) || !got.Created.Equal(now.Add(-time.Hour)) {
		t.Errorf("lives from %v to %v", got.Created, got.Expires)
	}
	if usages := strings.Join(got.Usages, " "); usages != "authentication other" {
		t.Errorf("usages %q: sorted, and those that are exactly \"true\"", usages)
	}
	if groups := strings.Join(got.Groups, " "); groups != "system:bootstrappers:b system:bootstrappers:a" {
		t.Errorf("groups %q", groups)
	}
}

func TestStatus(t *testing.T) {
	for name, test := range map[string]struct {
		expires time.Time
		problem string
		want    bootstrap.Status
	}{
		"never expires":      {time.Time{}, "", bootstrap.Active},
		"a second left":      {now.Add(time.Second), "", bootstrap.Active},
		"ends now":           {now, "", bootstrap.Expired},
		"over":               {now.Add(-time.Second), "", bootstrap.Expired},
		"invalid":            {now.Add(time.Second), "problem", bootstrap.Invalid},
		"invalid and over":   {now.Add(-time.Second), "problem", bootstrap.Invalid},
		"invalid for always": {time.Time{}, "problem", bootstrap.Invalid},
	} {
		if got := (&bootstrap.Token{Expires: test.expires, Problem: test.problem}).Status(now); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestAnEndInTheYearOneIsNotNever(t *testing.T) {
	got := bootstrap.FromSecret(stored(set("expiration", "0001-01-01T00:00:00Z")))
	if got.Status(now) != bootstrap.Expired {
		t.Errorf("status %s, want %s", got.Status(now), bootstrap.Expired)
	}
}

func TestValidate(t *testing.T) {
	long := "system:bootstrappers:" + strings.Repeat("x", 256)
	tests := map[string]struct {
		usages, groups []string
		complaints     []string
	}{
		"defaults":                    {bootstrap.DefaultUsages(), []string{defaultGroup}, nil},
		"no groups":                   {bootstrap.DefaultUsages(), nil, nil},
		"signing only":                {[]string{"signing"}, nil, nil},
		"longest group":               {[]string{"signing"}, []string{long}, nil},
		"group too long":              {[]string{"signing"}, []string{long + "x"}, []string{"invalid group"}},
		"no usages":                   {nil, nil, []string{"without a usage"}},
		"unknown usage":               {[]string{"authentication", "Signing"}, nil, []string{`unknown usage "Signing"`}},
		"empty usage":                 {[]string{""}, nil, []string{`unknown usage ""`}},
		"group of another kind":       {[]string{"signing"}, []string{"system:masters"}, []string{`invalid group "system:masters"`}},
		"group that ends in a colon":  {[]string{"signing"}, []string{"system:bootstrappers:x:"}, []string{"invalid group"}},
		"group that ends in a dash":   {[]string{"signing"}, []string{"system:bootstrappers:x-"}, []string{"invalid group"}},
		"group with a newline behind": {[]string{"signing"}, []string{"system:bootstrappers:x\n"}, []string{"invalid group"}},
		"group in upper case":         {[]string{"signing"}, []string{"system:bootstrappers:X"}, []string{"invalid group"}},
		"empty group":                 {[]string{"signing"}, []string{""}, []string{"invalid group"}},
		"everything wrong": {[]string{"a", "b"}, []string{"c", "d"},
			[]string{`unknown usage "a"`, `unknown usage "b"`, `invalid group "c"`, `invalid group "d"`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := (&bootstrap.Token{Usages: test.usages, Groups: test.groups}).Validate()
			if (err == nil) != (test.complaints == nil) {
				t.Fatalf("error %v, want %q", err, test.complaints)
			}
			for _, complaint := range test.complaints {
				if !strings.Contains(err.Error(), complaint) {
					t.Errorf("error %q, want it to say %q", err, complaint)
				}
			}
		})
	}
}

func TestATokenOfTheClusterPrintsWithoutItsSecret(t *testing.T) {
	tok := bootstrap.FromSecret(stored(nil))
	ref, err := bootstrap.ParseRef("abcdef." + secretPart)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, value := range []any{tok, *tok, ref, &ref, []bootstrap.Ref{ref}, struct{ Ref bootstrap.Ref }{ref}} {
			printed := fmt.Sprintf(verb, value)
			if strings.Contains(printed, secretPart) || strings.Contains(printed, fmt.Sprintf("%x", secretPart)) {
				t.Errorf("%s of %T prints the secret", verb, value)
			}
		}
	}
}

func FuzzFromSecret(f *testing.F) {
	f.Fuzz(func(t *testing.T, name, id, secret, expiration, groups, usage, description string) {
		in := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"},
			Type:       "bootstrap.kubernetes.io/token",
			Data: map[string][]byte{
				"token-id": []byte(id), "token-secret": []byte(secret), "expiration": []byte(expiration), "auth-extra-groups": []byte(groups),
				"usage-bootstrap-authentication": []byte(usage), "description": []byte(description),
			},
		}
		got := bootstrap.FromSecret(in)
		if _, known := problems[got.Problem]; !known {
			t.Fatalf("problem %q is not one of the known: does it hold data of the Secret?", got.Problem)
		}
		if got.Status(now) == bootstrap.Invalid {
			return
		}
		// A good token is written as it was read, but for what is empty, a
		// usage that is not "true", and how its end is put.
		out := got.Secret()
		if out.Name != name {
			t.Fatalf("it is written to %q, and was read from %q", out.Name, name)
		}
		for key, value := range in.Data {
			switch {
			case key == "expiration":
				old, _ := time.Parse(time.RFC3339, string(value))
				written, _ := time.Parse(time.RFC3339, string(out.Data[key]))
				if !old.Truncate(time.Second).Equal(written) {
					t.Fatalf("its end is written as %q, and was read as %q", out.Data[key], value)
				}
			case len(value) == 0, strings.HasPrefix(key, "usage-") && string(value) != "true":
				if _, ok := out.Data[key]; ok {
					t.Fatalf("%s is written, and was not there", key)
				}
			case string(out.Data[key]) != string(value):
				t.Fatalf("%s is not written as it was read", key)
			}
		}
		again := bootstrap.FromSecret(out)
		again.Expires, got.Expires = again.Expires.UTC().Truncate(time.Second), got.Expires.UTC().Truncate(time.Second)
		if !reflect.DeepEqual(again, got) {
			t.Fatal("what is written is not read as the same token")
		}
	})
}

var problems = map[string]bool{
	"":                                   true,
	"token-id is missing":                true,
	"token-secret is missing":            true,
	"token-id is not six of a-z and 0-9": true,
	"token-id does not match the name of the Secret":                     true,
	"token-secret is not sixteen of a-z and 0-9":                         true,
	"expiration is not a time in RFC 3339, such as 2030-01-31T12:00:00Z": true,
	"auth-extra-groups has an invalid group":                             true,
}

// FuzzIsGroup compares with the rule's own code.
func FuzzIsGroup(f *testing.F) {
	const prefix = "system:bootstrappers"
	for _, group := range []string{
		"", prefix, prefix + ":", prefix + ":a", prefix + ":k3s:default-node-token", prefix + ":-a", prefix + ":a-", prefix + ":a:",
		prefix + ":A", prefix + ":a b", prefix + ":ä", prefix + ":a\n", prefix + "a", "x" + prefix + ":a", prefix + "::",
		prefix + ":" + strings.Repeat("a", 255), prefix + ":" + strings.Repeat("a", 256), prefix + ":" + strings.Repeat("a", 257),
	} {
		f.Add(group)
	}
	f.Fuzz(func(t *testing.T, group string) {
		token := &bootstrap.Token{Usages: bootstrap.DefaultUsages(), Groups: []string{group}}
		if got, want := token.Validate(), bootstraputil.ValidateBootstrapGroupName(group); (got == nil) != (want == nil) {
			t.Errorf("%q: %v, want %v", group, got, want)
		}
	})
}
