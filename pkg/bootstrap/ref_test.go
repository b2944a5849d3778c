package bootstrap_test

import (
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

const caHash = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"

func TestParseRef(t *testing.T) {
	for in, want := range map[string]struct{ name, secret, shown string }{
		"abcdef":               {"bootstrap-token-abcdef", "", "abcdef"},
		"secret":               {"bootstrap-token-secret", "", "secret"},
		"abcdef." + secretPart: {"bootstrap-token-abcdef", secretPart, "abcdef"},
		"K10" + caHash + "::abcdef." + secretPart: {"bootstrap-token-abcdef", secretPart, "abcdef"},
		"K10::abcdef." + secretPart:               {"bootstrap-token-abcdef", secretPart, "abcdef"},
		"bootstrap-token-abcdef":                  {"bootstrap-token-abcdef", "", "abcdef"},
		"secret/bootstrap-token-abcdef":           {"bootstrap-token-abcdef", "", "abcdef"},
		"secret/bootstrap-token-odd":              {"bootstrap-token-odd", "", "secret/bootstrap-token-odd"},
		"secret/something.else":                   {"something.else", "", "secret/something.else"},
	} {
		got, err := bootstrap.ParseRef(in)
		if err != nil || got.SecretName != want.name || got.Secret.Reveal() != want.secret || got.String() != want.shown {
			t.Errorf("%s: Secret %q, shown as %q (%v), want %q and %q", want.shown, got.SecretName, got, err, want.name, want.shown)
		}
	}
}

func TestParseRefRejectsOtherText(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "invalid token: must not be empty",
		" abcdef":                              "not a bootstrap token",
		"abcdef\n":                             "not a bootstrap token",
		"ABCDEF":                               "not a bootstrap token",
		"thisisthepassword":                    "not a bootstrap token",
		"abcdef." + secretPart[1:]:             "invalid token secret: must be 16 characters, got 15",
		"K10" + caHash + "::server:password":   "not a bootstrap token",
		"K10" + caHash + "::node:password":     "not a bootstrap token",
		"K10" + caHash + "::abcdef.short":      "invalid token secret: must be 16 characters, got 5",
		"K10abc::abcdef." + secretPart:         "invalid CA hash: must be 64 characters, got 3",
		"secret/":                              "not a bootstrap token",
		"secret/Upper":                         "not a bootstrap token",
		"secret/a/b":                           "not a bootstrap token",
		"secret/..":                            "not a bootstrap token",
		"bootstrap-token-odd":                  "not a bootstrap token",
		"bootstrap-token-abcdef." + secretPart: "not a bootstrap token",
	} {
		got, err := bootstrap.ParseRef(in)
		if err == nil || got != (bootstrap.Ref{}) || err.Error() != want {
			t.Errorf("%d bytes, named %v (%v), want the error %q", len(in), got, err, want)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := bootstrap.ParseRef(s)
		if err != nil {
			for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(":./ ", r) }) {
				if len(word) > 20 && strings.Contains(err.Error(), word) {
					t.Fatal("the error quotes the input")
				}
			}
			return
		}
		if ref.SecretName == "" || strings.ContainsAny(ref.SecretName, "/ \n%?#") {
			t.Fatalf("name of a Secret %q", ref.SecretName)
		}
		if again, err := bootstrap.ParseRef(ref.String()); err != nil || again.SecretName != ref.SecretName {
			t.Fatalf("%v leads to %v (%v)", ref, again, err)
		}
	})
}
