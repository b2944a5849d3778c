package bootstrap_test

import (
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

const caHash = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"

func TestParseRef(t *testing.T) {
	for in, want := range map[string]struct{ secret, shown string }{
		"abcdef":               {"bootstrap-token-abcdef", "abcdef"},
		"secret":               {"bootstrap-token-secret", "secret"},
		"abcdef." + secretPart: {"bootstrap-token-abcdef", "abcdef"},
		"K10" + caHash + "::abcdef." + secretPart: {"bootstrap-token-abcdef", "abcdef"},
		"K10::abcdef." + secretPart:               {"bootstrap-token-abcdef", "abcdef"},
		"bootstrap-token-abcdef":                  {"bootstrap-token-abcdef", "abcdef"},
		"secret/bootstrap-token-abcdef":           {"bootstrap-token-abcdef", "abcdef"},
		"secret/bootstrap-token-odd":              {"bootstrap-token-odd", "secret/bootstrap-token-odd"},
		"secret/something.else":                   {"something.else", "secret/something.else"},
	} {
		got, err := bootstrap.ParseRef(in)
		if err != nil || got.SecretName != want.secret || got.String() != want.shown {
			t.Errorf("%s: Secret %q, shown as %q (%v), want %q and %q", want.shown, got.SecretName, got, err, want.secret, want.shown)
		}
	}
}

func TestParseRefRefusesWhatNamesNoToken(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "it is empty",
		" abcdef":                            "neither a token id",
		"abcdef\n":                           "neither a token id",
		"ABCDEF":                             "neither a token id",
		"abcdefg":                            "neither a token id",
		"thisisthepassword":                  "neither a token id",
		"abcdef." + secretPart[1:]:           "neither a token id",
		"K10" + caHash + "::server:password": "it is the server token",
		"K10" + caHash + "::node:password":   "it is the agent token",
		"K10" + caHash + "::user:password":   "neither a token id",
		"K10" + caHash:                       "credentials",
		"K10abc::abcdef." + secretPart:       "CA hash",
		"secret/":                            "no name of a Secret",
		"secret/Upper":                       "no name of a Secret",
		"secret/a/b":                         "no name of a Secret",
		"secret/..":                          "no name of a Secret",
		"secret/a%2fb":                       "no name of a Secret",
		"secrets/abcdef":                     "neither a token id",
		"bootstrap-token-":                   "no token id",
		"bootstrap-token-odd":                "write secret/<name>",
		"bootstrap-token-ABCDEF":             "no token id",
		"bootstrap-token-abc/..":             "no token id",
	} {
		got, err := bootstrap.ParseRef(in)
		if err == nil || got != (bootstrap.Ref{}) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes, named %v (%v), want an error that says %q", len(in), got, err, want)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := bootstrap.ParseRef(s)
		if err != nil {
			// The input may be a password, and no word of an error is as odd.
			for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return strings.ContainsRune(":./ ", r) }) {
				if len(word) > 20 && strings.Contains(err.Error(), word) {
					t.Fatal("the error repeats the input")
				}
			}
			if ref != (bootstrap.Ref{}) {
				t.Fatalf("%v comes with an error", ref)
			}
			return
		}
		if ref.SecretName == "" || strings.ContainsAny(ref.SecretName, "/ \n%?#") {
			t.Fatalf("Secret name %q", ref.SecretName)
		}
		named, err := bootstrap.ParseRef("secret/" + ref.SecretName)
		if err != nil || named.SecretName != ref.SecretName || named.String() != ref.String() {
			t.Fatalf("its name leads to %v (%v)", named, err)
		}
		if shown, err := bootstrap.ParseRef(ref.String()); err == nil && shown.SecretName != ref.SecretName {
			t.Fatalf("what is shown, %v, leads to %v", ref, shown)
		}
	})
}
