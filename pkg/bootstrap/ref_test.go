package bootstrap_test

import (
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

const caHash = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"

func TestParseRef(t *testing.T) {
	const name = "bootstrap-token-abcdef"
	for in, test := range map[string]struct{ name, secret, want string }{ // want is how it is shown, or the error
		"abcdef":               {name, "", "abcdef"},
		"abcdef." + secretPart: {name, secretPart, "abcdef"},
		"K10" + caHash + "::abcdef." + secretPart: {name, secretPart, "abcdef"},
		name:                                 {name, "", "abcdef"},
		"secret/" + name:                     {name, "", "abcdef"},
		"secret/bootstrap-token-odd":         {"bootstrap-token-odd", "", "secret/bootstrap-token-odd"},
		"":                                   {"", "", "invalid token: must not be empty"},
		"abcdef." + secretPart[1:]:           {"", "", "invalid token secret: must be 16 characters, got 15"},
		"K10" + caHash + "::server:password": {"", "", "not a bootstrap token"},
		"secret/a/b":                         {"", "", "not a bootstrap token"},
		"bootstrap-token-odd":                {"", "", "not a bootstrap token"},
	} {
		got, err := bootstrap.ParseRef(in)
		shown := got.String()
		if err != nil {
			shown = err.Error()
		}
		if shown != test.want || got.SecretName != test.name || got.Secret.Reveal() != test.secret {
			t.Errorf("%d bytes are Secret %q, shown as %q, want %q and %q", len(in), got.SecretName, shown, test.name, test.want)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := bootstrap.ParseRef(s)
		if err != nil {
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
