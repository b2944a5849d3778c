package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	hash   = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"
	secret = "0123456789abcdef"
)

func TestParseTellsTypeAndFormat(t *testing.T) {
	bootstrap := token.Token{ID: "abcdef", Secret: secret}
	password := func(user, s string) token.Token { return token.Token{User: user, Secret: token.Secret(s)} }
	tests := map[string]struct {
		in     string
		want   token.Token
		typ    token.Type
		format token.Format
	}{
		"short bootstrap token":                    {"abcdef." + secret, bootstrap, token.Bootstrap, token.ShortFormat},
		"secure bootstrap token":                   {"K10" + hash + "::abcdef." + secret, bootstrap.WithCAHash(hash), token.Bootstrap, token.SecureFormat},
		"bootstrap token with an empty hash":       {"K10::abcdef." + secret, bootstrap, token.Bootstrap, token.ShortFormat},
		"bootstrap token behind the prefix alone":  {"K10abcdef." + secret, bootstrap, token.Bootstrap, token.ShortFormat},
		"server token":                             {"K10" + hash + "::server:pass", password("server", "pass").WithCAHash(hash), token.Server, token.SecureFormat},
		"server token with an empty hash":          {"K10::server:pass", password("server", "pass"), token.Server, token.ShortFormat},
		"server token behind the prefix alone":     {"K10server:pass", password("server", "pass"), token.Server, token.ShortFormat},
		"agent token":                              {"K10" + hash + "::node:pass", password("node", "pass").WithCAHash(hash), token.Agent, token.SecureFormat},
		"password of another user":                 {"K10" + hash + "::someone:pass", password("someone", "pass").WithCAHash(hash), token.Password, token.SecureFormat},
		"password of no user":                      {"K10" + hash + ":::pass", password("", "pass").WithCAHash(hash), token.Password, token.SecureFormat},
		"password with colons":                     {"K10" + hash + "::server:a::b:c", password("server", "a::b:c").WithCAHash(hash), token.Server, token.SecureFormat},
		"password that looks like a token":         {"K10" + hash + "::server:abcdef." + secret, password("server", "abcdef."+secret).WithCAHash(hash), token.Server, token.SecureFormat},
		"short password":                           {"pass", password("", "pass"), token.Password, token.ShortFormat},
		"short password with a user's name before": {"server:pass", password("", "server:pass"), token.Password, token.ShortFormat},
		"short password of unusual characters":     {"pä ss\"%#$'\\", password("", "pä ss\"%#$'\\"), token.Password, token.ShortFormat},
		"password in upper case like a token":      {"ABCDEF." + secret, password("", "ABCDEF."+secret), token.Password, token.ShortFormat},
		"password that starts with k10":            {"k10::server:pass", password("", "k10::server:pass"), token.Password, token.ShortFormat},
		"password of the greatest length":          {strings.Repeat("x", token.MaxLength), password("", strings.Repeat("x", token.MaxLength)), token.Password, token.ShortFormat},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := token.Parse(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("parsed to %v with %d characters of secret, want %v with %d", got, len(got.Secret.Reveal()), test.want, len(test.want.Secret.Reveal()))
			}
			if got.Type() != test.typ || got.Format() != test.format {
				t.Errorf("is a %s token in %s format, want %s and %s", got.Type(), got.Format(), test.typ, test.format)
			}
		})
	}
}

func TestParseNamesTheMalformedPart(t *testing.T) {
	tests := map[string]struct{ in, part, reason string }{
		"nothing":                       {"", "token", "empty"},
		"longer than any token":         {strings.Repeat("x", token.MaxLength+1), "token", "65537 bytes"},
		"prefix alone":                  {"K10", "credentials", "neither"},
		"prefix and separator":          {"K10::", "credentials", "neither"},
		"hash without credentials":      {"K10" + hash + "::", "credentials", "neither"},
		"hash without separator":        {"K10" + hash, "credentials", "neither"},
		"hash cut short":                {"K10" + hash[1:] + "::server:pass", "CA hash", "63 characters instead of 64"},
		"hash too long":                 {"K10" + hash + "0::server:pass", "CA hash", "65 characters instead of 64"},
		"hash in upper case":            {"K10" + strings.ToUpper(hash) + "::server:pass", "CA hash", "character 1 is not"},
		"hash that is not hexadecimal":  {"K10" + hash[:63] + "g::server:pass", "CA hash", "character 64 is not"},
		"hash of other bytes":           {"K10" + hash[:62] + "é::server:pass", "CA hash", "character 63 is not"},
		"single colon behind the hash":  {"K10" + hash + ":", "credentials", "neither"},
		"user without password":         {"K10" + hash + "::server:", "credentials", "neither"},
		"password without user":         {"K10" + hash + "::pass", "credentials", "neither"},
		"bootstrap token cut short":     {"K10" + hash + "::abcdef." + secret[1:], "credentials", "neither"},
		"bootstrap token in upper case": {"K10" + hash + "::abcdef." + strings.ToUpper(secret), "credentials", "neither"},
		"final newline":                 {"K10" + hash + "::abcdef." + secret + "\n", "credentials", "neither"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := token.Parse(test.in)
			wantParseError(t, err, test.part, test.reason)
			if got != (token.Token{}) {
				t.Errorf("a token comes with the error: %v", got)
			}
		})
	}
}

func TestParseBootstrapNamesTheMalformedPart(t *testing.T) {
	tests := map[string]struct{ in, part, reason string }{
		"nothing":               {"", "token", "no dot"},
		"no dot":                {"abcdef" + secret, "token", "no dot"},
		"short id":              {"abcde." + secret, "token id", "5 characters instead of 6"},
		"long id":               {"abcdefg." + secret, "token id", "7 characters instead of 6"},
		"id in upper case":      {"abcDef." + secret, "token id", "character 4 is not"},
		"id below the digits":   {"abc/ef." + secret, "token id", "character 4 is not"},
		"id above the digits":   {"abc:ef." + secret, "token id", "character 4 is not"},
		"id below the letters":  {"abc`ef." + secret, "token id", "character 4 is not"},
		"id above the letters":  {"abc{ef." + secret, "token id", "character 4 is not"},
		"short secret":          {"abcdef." + secret[1:], "token secret", "15 characters instead of 16"},
		"long secret":           {"abcdef." + secret + "0", "token secret", "17 characters instead of 16"},
		"dot in the secret":     {"abcdef.01234567.9abcdef", "token secret", "character 9 is not"},
		"blank in the secret":   {"abcdef.0123456789abcde ", "token secret", "character 16 is not"},
		"secret in upper case":  {"abcdef." + strings.ToUpper(secret), "token secret", "character 11 is not"},
		"secret with a newline": {"abcdef." + secret + "\n", "token secret", "17 characters"},
		"secure format":         {"K10" + hash + "::abcdef." + secret, "token id", "characters instead of 6"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := token.ParseBootstrap(test.in)
			wantParseError(t, err, test.part, test.reason)
		})
	}
}

func wantParseError(t *testing.T, err error, part, reason string) {
	t.Helper()
	var parse *token.ParseError
	if !errors.As(err, &parse) {
		t.Fatalf("error %v, want a *ParseError", err)
	}
	if parse.Part != part || !strings.Contains(parse.Reason, reason) {
		t.Errorf("part %q, reason %q; want part %q and a reason with %q", parse.Part, parse.Reason, part, reason)
	}
	if part == "token" && err.Error() != parse.Reason || part != "token" && err.Error() != part+": "+parse.Reason {
		t.Errorf("error reads %q", err)
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
}

func TestCAHashIsPutOnAndTakenOff(t *testing.T) {
	short := token.Token{User: token.UserServer, Secret: "pass"}
	secure := short.WithCAHash(hash)
	if got, want := secure.Reveal(), "K10"+hash+"::server:pass"; got != want {
		t.Errorf("with the CA hash it is %q, want %q", got, want)
	}
	if got := secure.WithoutCAHash().Reveal(); got != "pass" {
		t.Errorf("without the CA hash it is %q, want the password alone", got)
	}
	if short.CAHash != "" {
		t.Error("WithCAHash changed the token that it was called on")
	}
}

func TestIsID(t *testing.T) {
	for s, want := range map[string]bool{
		"abcdef": true, "000000": true, "zzzzzz": true, "az09az": true,
		"": false, "abcde": false, "abcdefg": false, "ABCDEF": false, "abc-ef": false, "abcde\n": false, "abcé1": false,
	} {
		if got := token.IsID(s); got != want {
			t.Errorf("IsID(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestLooksLikeBootstrapSaysWhatIsWrong(t *testing.T) {
	tests := map[string]struct {
		in     string
		reason string // none: it does not look like one
	}{
		"id a character short":      {"abcde." + secret, "token id: it has 5 characters"},
		"id two characters long":    {"abcdefgh." + secret, "token id: it has 8 characters"},
		"id three characters long":  {"abcdefghi." + secret, ""},
		"id three characters short": {"abc." + secret, ""},
		"secret cut":                {"abcdef." + secret[2:], "token secret: it has 14 characters"},
		"secret cut by more":        {"abcdef." + secret[3:], ""},
		"secret too long":           {"abcdef." + secret + "00", "token secret: it has 18 characters"},
		"secret longer still":       {"abcdef." + secret + "000", ""},
		"upper case":                {"ABCDEF." + secret, "token id: character 1"},
		"password of server":        {"K10" + hash + "::server:abcdef." + strings.ToUpper(secret), "token secret: character 11"},
		"good token":                {"abcdef." + secret, ""},
		"good token as a password":  {"K10" + hash + "::server:abcdef." + secret, ""},
		"plain password":            {"correct horse battery staple", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			parsed, err := token.Parse(test.in)
			if err != nil {
				t.Fatal(err)
			}
			reason, ok := token.LooksLikeBootstrap(parsed)
			if ok != (test.reason != "") || !strings.HasPrefix(reason, test.reason) || !ok && reason != "" {
				t.Errorf("reason %q, %v; want %q", reason, ok, test.reason)
			}
		})
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
		"short":           bootstrap.WithoutCAHash(),
		"nested":          nested{bootstrap, hidden, password, map[string]token.Secret{"key": hidden}, []token.Secret{hidden}},
	}
	leaks := func(printed string) bool {
		printed = strings.ToLower(printed)
		return strings.Contains(printed, hidden) || strings.Contains(printed, fmt.Sprintf("%x", hidden)) ||
			strings.Contains(printed, fmt.Sprintf("% x", hidden)) || strings.Contains(printed, strings.Trim(fmt.Sprintf("%d", []byte(hidden)), "[]"))
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%#q", "%x", "%X", "% x", "%d", "%c", "%t", "%U", "%e", "%20s", "%.3s"} {
				if leaks(fmt.Sprintf(verb, value)) {
					t.Errorf("%s prints the secret", verb)
				}
			}
			if leaks(fmt.Sprint(value)) || leaks(fmt.Errorf("failed: %v", value).Error()) || leaks(fmt.Sprint(errors.New("x"), value)) {
				t.Error("print functions print the secret")
			}
			asJSON, err := json.Marshal(value)
			if err != nil || leaks(string(asJSON)) {
				t.Errorf("JSON holds the secret, or fails: %v", err)
			}
			asYAML, err := yaml.Marshal(value)
			if err != nil || leaks(string(asYAML)) {
				t.Errorf("YAML holds the secret, or fails: %v", err)
			}
			var log strings.Builder
			slog.New(slog.NewTextHandler(&log, nil)).Info("message", "value", value)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("message", "value", value)
			if leaks(log.String()) {
				t.Error("a log holds the secret")
			}
		})
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
			// The reasons hold lengths and positions only. Anything of the
			// token's would be the longest word of its own.
			for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ':' || r == '.' }) {
				if len(word) >= 12 && strings.Contains(err.Error(), word) && !strings.Contains(knownReasons, word) {
					t.Fatal("the error holds a part of the token")
				}
			}
			return
		}
		if parsed.Secret == "" {
			t.Fatal("a token without a secret")
		}
		// A secret may look like something public: then it shows there too.
		public := parsed
		public.Secret = "******"
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%d", "%x"} {
			if fmt.Sprintf(verb, parsed) != fmt.Sprintf(verb, public) {
				t.Fatalf("%s depends on the secret", verb)
			}
		}
		// Only a user's name in a token without a CA hash has no place in
		// what is revealed.
		if parsed.CAHash == "" && !strings.HasPrefix(s, "K10") && parsed.Reveal() != s {
			t.Fatal("a short token is not revealed as it was read")
		}
		if parsed.CAHash != "" || parsed.ID != "" {
			again, err := token.Parse(parsed.Reveal())
			if err != nil || again != parsed {
				t.Fatalf("reads back as %v (%v), want %v", again, err, parsed)
			}
		}
		if _, ok := token.LooksLikeBootstrap(parsed); ok && parsed.Type() == token.Bootstrap {
			t.Fatal("a bootstrap token is said not to be one")
		}
	})
}

// knownReasons are the words of the package's own that a token may hold too.
const knownReasons = "after the CA hash comes <id>.<secret> of a bootstrap token or <user>:<password>, and this is neither characters"

// TestSecretIsNotInAPanic has a child process panic with each of these. Go's
// runtime prints the value itself, past the package fmt.
func TestSecretIsNotInAPanic(t *testing.T) {
	const hidden, variable = "thisisthesecret0", "K3STOKEN_TEST_PANIC"
	bootstrap := token.Token{ID: "abcdef", Secret: hidden}
	values := map[string]any{
		"secret":         bootstrap.Secret,
		"token":          bootstrap,
		"pointer":        &bootstrap,
		"error":          fmt.Errorf("create: %v", bootstrap),
		"in a struct":    struct{ Token token.Token }{bootstrap},
		"parse error":    func() error { _, err := token.ParseBootstrap("abcdef." + hidden + "x"); return err }(),
		"in an argument": nil,
	}
	if name := os.Getenv(variable); name != "" {
		if name == "in an argument" {
			panicWith(bootstrap, bootstrap.Secret)
		}
		panic(values[name])
	}
	for name := range values {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecretIsNotInAPanic$")
		child.Env = append(os.Environ(), variable+"="+name, "GOTRACEBACK=all")
		out, err := child.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "panic: ") || !strings.Contains(string(out), "goroutine ") {
			t.Errorf("%s: no panic: %v", name, err)
		}
		if strings.Contains(string(out), hidden) || strings.Contains(string(out), fmt.Sprintf("%x", hidden)) {
			t.Errorf("%s: the secret is in the panic", name)
		}
	}
}

//go:noinline
func panicWith(t token.Token, s token.Secret) { panic(len(t.ID) + len(s)) }
