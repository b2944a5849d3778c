package rotation_test

import (
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	bootstrapToken = "abcdef.0123456789abcdef"
	secure         = "K10" + hash + "::server:"
)

func newToken(s string, allowUnsafe bool) (token.Token, error) {
	return rotation.NewToken(s, token.Token{Secret: current}, allowUnsafe)
}

func TestGoodNewTokensAreTaken(t *testing.T) {
	t.Parallel()
	for _, s := range []string{strong, secure + strong, "a1b2c3d4e5f60718293a4b5c6d7e8f90", "0b1f2c3d4e5f60718293a4b5c6d7e8f9", "correct-horse-battery-staple", "aZ0._~+=-aZ0._~+=-"} {
		got, err := newToken(s, false)
		if err != nil || got.Secret.Reveal() != strings.TrimPrefix(s, secure) || got.Type() != token.Server || (got.CAHash != "") != (s == secure+strong) {
			t.Errorf("%s: got another password, or %v", s, err)
		}
	}
	for range 5000 { // one of 256 begins with 0b
		if got, err := newToken("", false); err != nil || got.Type() != token.Server || len(got.Secret) != 32 || got.Secret == current {
			t.Fatalf("generated: got %s, %v", got, err)
		}
	}
}

func TestNewTokensThatK3sDoesNotSurviveAreAlwaysRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		bootstrapToken, secure + bootstrapToken, "K10" + hash + "::" + bootstrapToken, "K10" + strong, secure, secure + secure + strong,
		"K10" + hash + "::node:" + strong, "K10" + hash + ":::" + strong, strong + " x", strong + "\n", "\x1b" + strong,
		strong + "ü", strong + "\xff", current, secure + current,
	} {
		got, err := newToken(s, true)
		wantError(t, err, "the new token", "")
		if got != (token.Token{}) || strings.Contains(err.Error(), s) {
			t.Errorf("%q is returned, or in the error", s)
		}
	}
}

func TestOnlyTheServerTokenIsRotated(t *testing.T) {
	t.Parallel()
	for kind, other := range map[string]token.Token{
		"bootstrap": {ID: "abcdef", Secret: "0123456789abcdef"}, "agent": {User: token.UserNode, Secret: current},
	} {
		_, err := rotation.NewToken("", other, true)
		wantError(t, err, "the current token is of type "+kind, "")
	}
}

func TestNewTokensThatBreakFilesOrAreShortNeedAFlag(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		strong[:15], "-" + strong, strong + `"`, strong + "'", strong + "$", strong + "#", strong + "%", strong + ":", strong + `\`,
		"83920174658203917465", "8392017465820391e5", "8392_0174_6582_0391", "2024-10-15-83920174", "0x8f392a17b658203c", "0b10110010101101001",
	} {
		_, err := newToken(s, false)
		wantError(t, err, "the new token", "--allow-unsafe-token")
		if got, err := newToken(s, true); err != nil || got.Secret.Reveal() != s {
			t.Errorf("%s, allowed: got another password, or %v", s, err)
		}
	}
}
