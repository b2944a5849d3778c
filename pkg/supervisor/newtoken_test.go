package supervisor

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	liveHash  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	otherHash = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	strong    = "x7Kq2mVf9ZtLw4Rb"
)

func TestCheckNewToken(t *testing.T) {
	t.Parallel()
	secure := "K10" + liveHash + "::server:"
	for _, test := range []struct {
		name     string
		new      string
		current  string
		want     Problem
		password string // where it is not the argument
	}{
		{name: "random", new: strong},
		{name: "32 hexadecimal digits", new: "a1b2c3d4e5f60718293a4b5c6d7e8f90"},
		{name: "base64", new: "q+8/Zk1n0PvXbA2w=="},
		{name: "words that nobody tries first", new: "correct-horse-battery-staple"},
		{name: "secure format", new: secure + strong, password: strong},

		{name: "empty", new: "", want: Empty},
		{name: "too long", new: strings.Repeat(strong, 300), want: TooLong},
		{name: "too long in secure format", new: secure + strings.Repeat("aB3xQ7zP", 515), want: TooLong},
		{name: "bootstrap form", new: bootstrapToken, want: BootstrapForm},
		{name: "bootstrap form in K10", new: "K10" + liveHash + "::" + bootstrapToken, want: BootstrapForm},
		{name: "bootstrap form in K10 without a hash", new: "K10::" + bootstrapToken, want: BootstrapForm},
		{name: "bootstrap form as the server's password", new: secure + bootstrapToken, want: BootstrapForm},
		{name: "K10 and something", new: "K10" + strong, want: SecureForm},
		{name: "K10 alone", new: "K10", want: SecureForm},
		{name: "K10 with a cut hash", new: "K10" + liveHash[:63] + "::server:" + strong, want: SecureForm},
		{name: "K10 without a hash", new: "K10::server:" + strong, want: SecureForm},
		{name: "K10 without credentials", new: "K10" + liveHash + "::server:", want: SecureForm},
		{name: "K10 within K10", new: secure + "K10" + liveHash + "::server:" + strong, want: SecureForm},
		{name: "K10 of an agent token", new: "K10" + liveHash + "::node:" + strong, want: OtherUser},
		{name: "K10 without a user", new: "K10" + liveHash + ":::" + strong, want: OtherUser},
		{name: "K10 of another CA", new: "K10" + otherHash + "::server:" + strong, want: OtherCA},
		{name: "space", new: strong + " x", want: WhiteSpace},
		{name: "final newline", new: strong + "\n", want: WhiteSpace},
		{name: "tab", new: "\t" + strong, want: WhiteSpace},
		{name: "NUL", new: strong + "\x00", want: Control},
		{name: "escape", new: "\x1b" + strong, want: Control},
		{name: "DEL", new: strong + "\x7f", want: Control},
		{name: "umlaut", new: strong + "ü", want: NonASCII},
		{name: "no UTF-8", new: strong + "\xff", want: NonASCII},
		{name: "non-breaking space", new: strong + "\u00a0", want: NonASCII},
		{name: "same as the current one", new: strong, current: strong, want: SameAsCurrent},
		{name: "same as the current one in secure format", new: secure + strong, current: "K10" + otherHash + "::server:" + strong, want: SameAsCurrent},
		{name: "current in bootstrap form", new: strong, current: bootstrapToken, want: CurrentIsBootstrap},
		{name: "current in bootstrap form in K10", new: strong, current: "K10" + liveHash + "::" + bootstrapToken, want: CurrentIsBootstrap},

		{name: "leading dash", new: "-" + strong, want: Special},
		{name: "leading equals sign", new: "=" + strong, want: Special},
		{name: "digits only", new: "83920174658203917465", want: Special},
		{name: "a number with an exponent", new: "8392017465820391e5", want: Special},
		{name: "a number that is too large", new: "8392017465e8203917465", want: Special},
		{name: "a number with underscores", new: "8392_0174_6582_0391", want: Special},
		{name: "an octal number", new: "0o1234567012345670", want: Special},
		{name: "a hexadecimal number", new: "0x8f392a17b658203c", want: Special},
		{name: "digits and dashes", new: "2024-10-15-83920174", want: Special},

		{name: "15 characters", new: strong[:15], want: Weak},
		{name: "one character", new: "q", want: Weak},
		{name: "one character over and over", new: strings.Repeat("z", 40), want: Weak},
		{name: "a piece over and over", new: strings.Repeat("aZ3x", 8), want: Weak},
		{name: "a piece over and over, cut", new: strings.Repeat("aZ3xQ9", 4)[:23], want: Weak},
		{name: "few different characters", new: "abbabaabbaababbaab", want: Weak},
		{name: "alphabet", new: "abcdefghijklmnopqrst", want: Weak},
		{name: "alphabet and digits", new: "abcdefghij1234567890", want: Weak},
		{name: "backwards", new: "zyxwvutsrqponmlkji", want: Weak},
		{name: "keyboard", new: "qwertyuiopasdfghjkl", want: Weak},
		{name: "hexadecimal digits in their order", new: "0123456789abcdef0123456789abcdef", want: Weak},
		{name: "common words", new: "MyK3sServerToken2024", want: Weak},
		{name: "a common word twice", new: "PasswordPassword", want: Weak},
		{name: "a common word and digits", new: "changeme-password-123456", want: Weak},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			current := token.Token{User: token.UserServer, Secret: "the-current-one-is-this"}
			if test.current != "" {
				current = parse(t, test.current)
			}
			for _, opts := range []NewTokenOptions{{}, {AllowSpecial: true}, {AllowWeak: true}, {true, true}} {
				n, err := CheckNewToken(test.new, current, liveHash, opts)
				want := test.want
				if want == Special && opts.AllowSpecial || want == Weak && opts.AllowWeak {
					want = ""
				}
				var refused *NewTokenError
				switch {
				case want == "" && err != nil:
					if !errors.As(err, &refused) || test.want != Special || refused.Problem != Weak {
						t.Errorf("%+v: got %v", opts, err)
					}
				case want == "":
					password := test.password
					if password == "" {
						password = test.new
					}
					if got := n.Token(); got.Secret.Reveal() != password || got.Type() != token.Server {
						t.Errorf("%+v: got another password", opts)
					}
				case !errors.As(err, &refused) || refused.Problem != want:
					t.Errorf("%+v: got %v, want %s", opts, err, want)
				case n != NewToken{}:
					t.Errorf("%+v: refused, and yet returned", opts)
				}
				if err != nil && (len(test.new) > 3 && strings.Contains(err.Error(), test.new) || err.Error() == "") {
					t.Errorf("the error echoes the token: %v", err)
				}
			}
		})
	}
}

func TestSpecialCharactersAreRefusedOneByOne(t *testing.T) {
	t.Parallel()
	for c := byte('!'); c <= '~'; c++ {
		_, err := CheckNewToken("x7Kq2mVf"+string(rune(c))+"9ZtLw4Rb", token.Token{}, liveHash, NewTokenOptions{})
		harmless := isAlphanumeric(c) || strings.ContainsRune("-_.+/=", rune(c))
		if harmless != (err == nil) {
			t.Errorf("%q: got %v", c, err)
		}
		if !harmless {
			if want := "character 9 "; !strings.HasPrefix(err.Error(), want) || strings.ContainsRune(err.Error(), rune(c)) && !strings.ContainsRune(`,:;'"`, rune(c)) {
				t.Errorf("%q: got %v, want %q and not the character", c, err, want)
			}
		}
		if _, err := CheckNewToken("x7Kq2mVf"+string(rune(c))+"9ZtLw4Rb", token.Token{}, liveHash, NewTokenOptions{AllowSpecial: true}); err != nil {
			t.Errorf("%q, allowed: got %v", c, err)
		}
	}
}

func TestRandomPasswordsAreNotCalledWeak(t *testing.T) {
	t.Parallel()
	for range 20000 {
		generated, err := token.GeneratePassword(rand.Reader, token.UserServer)
		if err != nil {
			t.Fatal(err)
		}
		if reason := weakness(generated.Secret.Reveal()); reason != "" {
			t.Errorf("%s: %s", generated.Secret.Reveal(), reason)
		}
	}
}

func TestANewTokenHidesItself(t *testing.T) {
	t.Parallel()
	n := newToken(t)
	if text := fmt.Sprintf("%v %+v %#v %s %q %d", n, n, n, n, n, n) + fmt.Sprint(n, []NewToken{n}, map[string]any{"n": n}); strings.Contains(text, n.Token().Secret.Reveal()) {
		t.Errorf("prints as %s", text)
	}
}

func FuzzCheckNewToken(f *testing.F) {
	for _, s := range []string{"", strong, bootstrapToken, "K10", "K10" + liveHash + "::server:" + strong, "K10" + liveHash + "::server:" + bootstrapToken, "1e9", "qwertyuiopqwerty"} {
		f.Add(s, strong, true, true)
		f.Add(s, "", false, false)
	}
	f.Fuzz(func(t *testing.T, s, current string, special, weak bool) {
		now, err := token.Parse(current)
		if err != nil {
			now = token.Token{}
		}
		n, err := CheckNewToken(s, now, liveHash, NewTokenOptions{AllowSpecial: special, AllowWeak: weak})
		if err != nil {
			var refused *NewTokenError
			if !errors.As(err, &refused) || refused.Reason == "" || n != (NewToken{}) {
				t.Errorf("got %v and a token", err)
			}
			// The texts differ by position and kind only, whatever the token.
			if text := err.Error(); printable(text) != text {
				t.Errorf("the error echoes: %q", text)
			}
			return
		}
		password := n.Token().Secret.Reveal()
		if _, err := token.ParseBootstrap(password); err == nil || password == "" || strings.HasPrefix(password, "K10") || !strings.HasSuffix(s, password) {
			t.Error("let pass what K3s does not survive")
		}
		for i := range len(password) {
			if password[i] <= ' ' || password[i] >= 0x7f {
				t.Errorf("let byte %#x pass", password[i])
			}
		}
		if password == now.Secret.Reveal() {
			t.Error("let the current token pass")
		}
		// What K3s would make of it is this very password.
		if again, err := token.Parse("K10" + liveHash + "::server:" + password); err != nil || again.Secret.Reveal() != password || again.Type() != token.Server {
			t.Errorf("reads back as something else: %v", err)
		}
	})
}
