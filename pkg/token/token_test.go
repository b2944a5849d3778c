package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	hash   = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"
	secret = "0123456789abcdef"
)

func TestParse(t *testing.T) {
	bootstrap := token.Token{ID: "abcdef", Secret: secret}
	password := func(user, s string) token.Token { return token.Token{User: user, Secret: token.Secret(s)} }
	tests := map[string]struct {
		in     string
		want   token.Token
		typ    token.Type
		format token.Format
	}{
		"short bootstrap token":                  {"abcdef." + secret, bootstrap, token.Bootstrap, token.ShortFormat},
		"secure bootstrap token":                 {"K10" + hash + "::abcdef." + secret, bootstrap.WithCAHash(hash), token.Bootstrap, token.SecureFormat},
		"bootstrap token with an empty hash":     {"K10::abcdef." + secret, bootstrap, token.Bootstrap, token.ShortFormat},
		"bootstrap token after the prefix alone": {"K10abcdef." + secret, bootstrap, token.Bootstrap, token.ShortFormat},
		"server token":                           {"K10" + hash + "::server:pass", password("server", "pass").WithCAHash(hash), token.Server, token.SecureFormat},
		"server token with an empty hash":        {"K10::server:pass", password("server", "pass"), token.Server, token.ShortFormat},
		"server token after the prefix alone":    {"K10server:pass", password("server", "pass"), token.Server, token.ShortFormat},
		"agent token":                            {"K10" + hash + "::node:pass", password("node", "pass").WithCAHash(hash), token.Agent, token.SecureFormat},
		"password of another user":               {"K10" + hash + "::someone:pass", password("someone", "pass").WithCAHash(hash), token.Password, token.SecureFormat},
		"password without a user":                {"K10" + hash + ":::pass", password("", "pass").WithCAHash(hash), token.Password, token.SecureFormat},
		"password with colons":                   {"K10" + hash + "::server:a::b:c", password("server", "a::b:c").WithCAHash(hash), token.Server, token.SecureFormat},
		"password that looks like a token":       {"K10" + hash + "::server:abcdef." + secret, password("server", "abcdef."+secret).WithCAHash(hash), token.Server, token.SecureFormat},
		"short password":                         {"pass", password("", "pass"), token.Password, token.ShortFormat},
		"short password with a user name":        {"server:pass", password("", "server:pass"), token.Password, token.ShortFormat},
		"short password of unusual characters":   {"pä ss\"%#$'\\", password("", "pä ss\"%#$'\\"), token.Password, token.ShortFormat},
		"password in upper case like a token":    {"ABCDEF." + secret, password("", "ABCDEF."+secret), token.Password, token.ShortFormat},
		"password that starts with k10":          {"k10::server:pass", password("", "k10::server:pass"), token.Password, token.ShortFormat},
	}
	for name, test := range tests {
		got, err := token.Parse(test.in)
		if err != nil || got != test.want || got.Type() != test.typ || got.Format() != test.format {
			t.Errorf("%s: got the %s token %v in %s format, %v; want %v", name, got.Type(), got, got.Format(), err, test.want)
		}
	}
}

func TestParseNamesTheMalformedPart(t *testing.T) {
	const credentials = "invalid credentials: must be <id>.<secret> or <user>:<password>"
	for in, want := range map[string]string{
		"":                                         "invalid token: must not be empty",
		"K10":                                      credentials,
		"K10::":                                    credentials,
		"K10" + hash:                               credentials,
		"K10" + hash + ":":                         credentials,
		"K10" + hash + "::":                        credentials,
		"K10" + hash + "::server:":                 credentials,
		"K10" + hash + "::pass":                    credentials,
		"K10" + hash[1:] + "::server:pass":         "invalid CA hash: must be 64 characters, got 63",
		"K10" + hash + "0::server:pass":            "invalid CA hash: must be 64 characters, got 65",
		"K10" + hash[:63] + "g::server:pass":       "invalid CA hash: character 64 is not one of 0-9a-f",
		"K10" + hash[:62] + "é::server:pass":       "invalid CA hash: character 63 is not one of 0-9a-f",
		"K10" + hash + "::abcdef." + secret[1:]:    "invalid token secret: must be 16 characters, got 15",
		"K10" + hash + "::abcdef." + secret + "\n": "invalid token secret: must be 16 characters, got 17",
	} {
		_, err := token.Parse(in)
		wantParseError(t, err, want)
	}
}

func TestParseBootstrapNamesTheMalformedPart(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "invalid token: must be <id>.<secret>",
		"abcdef" + secret:                   "invalid token: must be <id>.<secret>",
		"abcde." + secret:                   "invalid token id: must be 6 characters, got 5",
		"abcdefg." + secret:                 "invalid token id: must be 6 characters, got 7",
		"abcDef." + secret:                  "invalid token id: character 4 is not one of a-z0-9",
		"abc-ef." + secret:                  "invalid token id: character 4 is not one of a-z0-9",
		"abcdef." + secret + "0":            "invalid token secret: must be 16 characters, got 17",
		"abcdef.01234567.9abcdef":           "invalid token secret: character 9 is not one of a-z0-9",
		"abcdef." + strings.ToUpper(secret): "invalid token secret: character 11 is not one of a-z0-9",
		"K10" + hash + "::abcdef." + secret: "invalid token id: must be 6 characters, got 75",
	} {
		_, err := token.ParseBootstrap(in)
		wantParseError(t, err, want)
	}
}

func wantParseError(t *testing.T, err error, want string) {
	t.Helper()
	var parse *token.ParseError
	if !errors.As(err, &parse) || err.Error() != want || parse.Hint() == "" {
		t.Errorf("error %T %v, want the *ParseError %q", err, err, want)
	}
}

func TestRevealWritesWhatParseReads(t *testing.T) {
	for _, in := range []string{
		"abcdef." + secret,
		"K10" + hash + "::abcdef." + secret,
		"K10" + hash + "::server:pass",
		"K10" + hash + "::node:a::b:c",
		"K10" + hash + ":::pass",
		"pass",
		"server:pass",
	} {
		parsed, err := token.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Reveal() != in {
			t.Errorf("%v is not revealed as it was read", parsed)
		}
	}
	server := token.Token{User: token.UserServer, Secret: "pass"}
	if got, want := server.WithCAHash(hash).Reveal(), "K10"+hash+"::server:pass"; got != want {
		t.Errorf("with the CA hash it is %q, want %q", got, want)
	}
	if got := server.WithCAHash(hash).WithCAHash("").Reveal(); got != "pass" {
		t.Errorf("without the CA hash it is %q, want the password alone", got)
	}
}

func TestGeneratePassword(t *testing.T) {
	first, second := token.GeneratePassword(), token.GeneratePassword()
	if !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(first.Reveal()) || first == second {
		t.Errorf("passwords of %d and %d characters, want two different ones of 32 hexadecimal digits", len(first.Reveal()), len(second.Reveal()))
	}
}

func TestLooksLikeBootstrap(t *testing.T) {
	tests := map[string]struct {
		in     string
		reason string // empty if it does not look like one
	}{
		"id a character short":      {"abcde." + secret, "invalid token id: must be 6 characters, got 5"},
		"id two characters long":    {"abcdefgh." + secret, "invalid token id: must be 6 characters, got 8"},
		"id three characters long":  {"abcdefghi." + secret, ""},
		"id three characters short": {"abc." + secret, ""},
		"secret cut":                {"abcdef." + secret[2:], "invalid token secret: must be 16 characters, got 14"},
		"secret cut by more":        {"abcdef." + secret[3:], ""},
		"secret too long":           {"abcdef." + secret + "00", "invalid token secret: must be 16 characters, got 18"},
		"secret longer still":       {"abcdef." + secret + "000", ""},
		"upper case":                {"ABCDEF." + secret, "invalid token id: character 1"},
		"password of server":        {"K10" + hash + "::server:abcdef." + strings.ToUpper(secret), "invalid token secret: character 11"},
		"good token":                {"abcdef." + secret, ""},
		"good token as a password":  {"K10" + hash + "::server:abcdef." + secret, ""},
		"plain password":            {"correct horse battery staple", ""},
	}
	for name, test := range tests {
		parsed, err := token.Parse(test.in)
		reason, ok := token.LooksLikeBootstrap(parsed)
		if err != nil || ok != (test.reason != "") || !strings.HasPrefix(reason, test.reason) || !ok && reason != "" {
			t.Errorf("%s: reason %q, %v; want %q", name, reason, ok, test.reason)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	const hidden = "thisisthesecret0"
	bootstrap := token.Token{CAHash: hash, ID: "abcdef", Secret: hidden}
	password := token.Token{User: token.UserServer, Secret: hidden}
	type nested struct {
		Token  token.Token
		Secret token.Secret
		Any    any
		Map    map[string]token.Secret
		Slice  []token.Secret
	}
	values := map[string]any{
		"secret":          token.Secret(hidden),
		"bootstrap token": bootstrap,
		"pointer":         &bootstrap,
		"password":        password,
		"short":           bootstrap.WithCAHash(""),
		"nested":          nested{bootstrap, hidden, password, map[string]token.Secret{"key": hidden}, []token.Secret{hidden}},
	}
	leaks := func(printed string) bool {
		printed = strings.ToLower(printed)
		return strings.Contains(printed, hidden) || strings.Contains(printed, fmt.Sprintf("%x", hidden)) ||
			strings.Contains(printed, fmt.Sprintf("% x", hidden)) || strings.Contains(printed, strings.Trim(fmt.Sprintf("%d", []byte(hidden)), "[]"))
	}
	for name, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%#q", "%x", "%X", "% x", "%d", "%c", "%t", "%U", "%e", "%20s", "%.3s"} {
			if leaks(fmt.Sprintf(verb, value)) {
				t.Errorf("%s of %s prints the secret", verb, name)
			}
		}
		asJSON, err := json.Marshal(value)
		if err != nil || leaks(string(asJSON)) {
			t.Errorf("JSON of %s holds the secret or fails: %v", name, err)
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("message", "value", value)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("message", "value", value)
		if leaks(log.String()) {
			t.Errorf("a log of %s holds the secret", name)
		}
	}
}

func TestStringShowsWhatIsPublic(t *testing.T) {
	for want, tok := range map[string]token.Token{
		"K10" + hash + "::abcdef.******": {CAHash: hash, ID: "abcdef", Secret: secret},
		"K10" + hash + "::server:******": {CAHash: hash, User: "server", Secret: secret},
		"abcdef.******":                  {ID: "abcdef", Secret: secret},
		"******":                         {Secret: secret},
	} {
		if got := fmt.Sprint(tok); got != want {
			t.Errorf("prints as %q, want %q", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := token.Parse(s)
		if err != nil {
			var parse *token.ParseError
			if !errors.As(err, &parse) || parsed != (token.Token{}) {
				t.Fatalf("error %T with token %v, want a *ParseError alone", err, parsed)
			}
			if !reasons.MatchString(err.Error()) {
				t.Fatal("the reason is not a known one: it may hold a part of the token")
			}
			return
		}
		if parsed.Secret == "" {
			t.Fatal("a token without a secret")
		}
		public := parsed
		public.Secret = "******"
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%d", "%x"} {
			if fmt.Sprintf(verb, parsed) != fmt.Sprintf(verb, public) {
				t.Fatalf("%s depends on the secret", verb)
			}
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

var reasons = regexp.MustCompile(`^invalid (token|CA hash|credentials|token id|token secret): ` +
	`(must not be empty|must be <id>\.<secret>( or <user>:<password>)?|must be \d+ characters, got \d+|` +
	`character \d+ is not one of (0-9a-f|a-z0-9))$`)
