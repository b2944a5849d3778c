package token_test

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// hash is the SHA-256 of single.pem.
const (
	hash   = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"
	secret = "0123456789abcdef"
)

func TestParse(t *testing.T) {
	bootstrap := token.Token{ID: "abcdef", Secret: secret}
	password := func(user, s string) token.Token { return token.Token{User: user, Secret: token.Secret(s)} }
	for in, test := range map[string]struct {
		want token.Token
		kind token.Type
	}{
		"abcdef." + secret:                   {bootstrap, token.Bootstrap},
		"K10" + hash + "::abcdef." + secret:  {bootstrap.WithCAHash(hash), token.Bootstrap},
		"K10" + hash + "::server:pass":       {password("server", "pass").WithCAHash(hash), token.Server},
		"K10server:pass":                     {password("server", "pass"), token.Server},
		"K10" + hash + "::node:pass":         {password("node", "pass").WithCAHash(hash), token.Agent},
		"K10" + hash + "::someone:a::b:c":    {password("someone", "a::b:c").WithCAHash(hash), token.Password},
		"K10" + hash + ":::abcdef." + secret: {password("", "abcdef."+secret).WithCAHash(hash), token.Password},
		"server:pä ss\"%#$'\\":               {password("", "server:pä ss\"%#$'\\"), token.Password},
		"ABCDEF." + secret:                   {password("", "ABCDEF."+secret), token.Password},
	} {
		got, err := token.Parse(in)
		secure := strings.HasPrefix(in, "K10"+hash)
		if err != nil || got != test.want || got.Type() != test.kind || secure != (got.CAHash != "") {
			t.Errorf("got the %s token %v, %v; want %v", got.Type(), got, err, test.want)
		}
		if complete := secure || !strings.HasPrefix(in, "K10"); complete && got.Reveal() != in {
			t.Errorf("%v is not revealed as it was read", got)
		}
	}
}

func TestParseNamesTheMalformedPart(t *testing.T) {
	const credentials = "invalid credentials: must be <id>.<secret> or <user>:<password>"
	for in, want := range map[string]string{
		"":                                      "invalid token: must not be empty",
		"K10" + hash:                            credentials,
		"K10" + hash[1:] + "::server:pass":      "invalid CA hash: must be 64 characters, got 63",
		"K10" + hash[:63] + "g::server:pass":    "invalid CA hash: character 64 is not one of 0-9a-f",
		"K10" + hash + "::abcdef." + secret[1:]: "invalid token secret: must be 16 characters, got 15",
	} {
		_, err := token.Parse(in)
		wantParseError(t, err, want)
	}
	_, err := token.Parse("K10" + strings.ToUpper(hash) + "::server:pass")
	if hint := wantParseError(t, err, "invalid CA hash: character 1 is not one of 0-9a-f"); hint != "write it in lower case" {
		t.Errorf("hint %q", hint)
	}
	for in, want := range map[string]string{
		"":                                  "invalid token: must be <id>.<secret>",
		"abcDef." + secret:                  "invalid token id: character 4 is not one of a-z0-9",
		"K10" + hash + "::abcdef." + secret: "invalid token id: must be 6 characters, got 75",
	} {
		_, err := token.ParseBootstrap(in)
		wantParseError(t, err, want)
	}
}

// wantParseError fails the test unless err is a *ParseError that starts with a
// text, and returns its hint. It never shows the secret.
func wantParseError(t *testing.T, err error, start string) string {
	t.Helper()
	var parse *token.ParseError
	if !errors.As(err, &parse) || !strings.HasPrefix(err.Error(), start) || parse.Hint() == "" {
		t.Fatalf("error %T %v, want the *ParseError %q with a hint", err, err, start)
	}
	if strings.Contains(err.Error()+parse.Hint(), hidden) {
		t.Fatal("the secret is in the error")
	}
	return parse.Hint()
}

func TestMistyped(t *testing.T) {
	for in, want := range map[string]string{
		"abcde." + secret:                          "invalid token id: must be 6 characters, got 5",
		"abcdef." + secret[2:]:                     "invalid token secret: must be 16 characters, got 14",
		"ABCDEF." + secret:                         "invalid token id: character 1 is not one of a-z0-9",
		"abcdef":                                   "invalid token: must be <id>.<secret>",
		"K10" + hash + "::server:abcdef":           "<nil>", // a short password
		"abcdef." + secret:                         "<nil>",
		"K10" + hash + "::server:abcdef." + secret: "<nil>",
	} {
		parsed, err := token.Parse(in)
		if got := fmt.Sprint(parsed.Mistyped()); err != nil || got != want {
			t.Errorf("%d bytes: got %q, want %q", len(in), got, want)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	bootstrap := token.Token{CAHash: hash, ID: "abcdef", Secret: hidden}
	numbers := strings.Trim(fmt.Sprintf("%d", []byte(hidden)), "[]")
	for _, value := range []any{token.Secret(hidden), &bootstrap, map[string]any{"a": bootstrap, "b": []token.Secret{hidden}}} {
		var printed strings.Builder
		slog.New(slog.NewTextHandler(&printed, nil)).Info("message", "value", value)
		slog.New(slog.NewJSONHandler(&printed, nil)).Info("message", "value", value)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%t", "%U", "%20s", "%.3s"} {
			fmt.Fprintf(&printed, verb, value)
		}
		text := strings.ToLower(strings.ReplaceAll(printed.String(), " ", ""))
		if strings.Contains(text, hidden) || strings.Contains(text, fmt.Sprintf("%x", hidden)) || strings.Contains(printed.String(), numbers) {
			t.Errorf("the secret of a %T is printed", value)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := token.Parse(s)
		if err != nil {
			if wantParseError(t, err, "invalid "); parsed != (token.Token{}) || !reasons.MatchString(err.Error()) {
				t.Fatal("there is a token besides the error, or the reason may hold a part of it")
			}
			return
		}
		public := parsed
		if public.Secret = "******"; parsed.Secret == "" || fmt.Sprintf("%#v", parsed) != fmt.Sprintf("%#v", public) {
			t.Fatal("a token without a secret, or one that is printed")
		}
		// In short format the user name is lost, and a password may look like
		// another token.
		if parsed.CAHash == "" && parsed.ID == "" {
			if !strings.HasPrefix(s, "K10") && parsed.Reveal() != s {
				t.Fatal("a password is not revealed as it was read")
			}
			return
		}
		if again, err := token.Parse(parsed.Reveal()); err != nil || again != parsed {
			t.Fatalf("reads back as %v (%v), want %v", again, err, parsed)
		}
	})
}

var reasons = regexp.MustCompile(`^invalid [a-zA-Z ]+: (must [a-z<>.: ]+|must be \d+ characters, got \d+|character \d+ is not one of (0-9a-f|a-z0-9))$`)
