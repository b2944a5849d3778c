package supervisor

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// MinPassword is the shortest password that is not called weak.
	MinPassword = 16
	// MaxPassword is the longest that is sent. K3s sets no limit; the password
	// travels in the header of every request of a joining server.
	MaxPassword = 4096

	// minCore and minDistinct are how many characters, and how many different
	// ones, must remain of a password after what is easy to guess is taken
	// out: see core.
	minCore     = 12
	minDistinct = 6
)

// NewToken is the password of a server token that CheckNewToken let pass. The
// zero value is none.
type NewToken struct{ password token.Secret }

// Token returns the server token, in short format.
func (n NewToken) Token() token.Token {
	return token.Token{User: token.UserServer, Secret: n.password}
}

// Format hides the password from every verb. A type that holds a token.Secret
// in an unexported field must do so itself: package fmt does not ask the field.
func (n NewToken) Format(f fmt.State, verb rune) { n.password.Format(f, verb) }

// NewTokenOptions let pass what is refused for the user's own good.
type NewTokenOptions struct {
	// AllowSpecial takes printable ASCII characters that K3s can live with,
	// and that break env files, YAML or systemd units around it.
	AllowSpecial bool
	// AllowWeak takes passwords that are short or can be guessed.
	AllowWeak bool
}

// Problem says why a new token is refused.
type Problem string

// The problems. Special and Weak have an option that lets them pass, and the
// others have none: K3s would be damaged.
const (
	Empty              Problem = "empty"
	TooLong            Problem = "too long"
	BootstrapForm      Problem = "bootstrap form"
	SecureForm         Problem = "secure form"
	OtherUser          Problem = "other user"
	OtherCA            Problem = "other CA"
	WhiteSpace         Problem = "white space"
	Control            Problem = "control character"
	NonASCII           Problem = "non-ASCII character"
	Special            Problem = "special character"
	Weak               Problem = "weak"
	SameAsCurrent      Problem = "same as current"
	CurrentIsBootstrap Problem = "current is a bootstrap token"
)

// NewTokenError is the refusal of a new token. It never holds anything of the
// token itself.
type NewTokenError struct {
	Problem Problem
	// Reason says what is wrong, and what to do.
	Reason string
}

func (e *NewTokenError) Error() string { return e.Reason }

func newTokenError(p Problem) *NewTokenError {
	return &NewTokenError{Problem: p, Reason: map[Problem]string{
		Empty:              "the new token is empty: leave it out to have one generated",
		TooLong:            fmt.Sprintf("the new token has more than %d characters: 32 random ones are plenty", MaxPassword),
		BootstrapForm:      "the new token has the form of a bootstrap token, <id>.<secret>: with such a server token K3s does not start again (k3s-io/k3s#12982); choose a password of another form",
		SecureForm:         "the new token starts with K10 but is not K10<CA hash>::server:<password>: K3s would write a malformed token file; give the password alone",
		OtherUser:          "the new token is in secure format but not a server token, K10<CA hash>::server:<password>: give the password alone",
		OtherCA:            "the new token carries the hash of another CA than the cluster's: give the password alone",
		CurrentIsBootstrap: "the current token is a bootstrap token: only the server token can rotate itself; it is in server/token of the data directory on a server node",
		SameAsCurrent:      "the new token is the current one: choose another, or leave it out to have one generated",
	}[p]}
}

// CheckNewToken decides whether a string may become the server token, and
// refuses what would leave a cluster that does not start again. It takes a
// password, or K10<CA hash>::server:<password> for the cluster's own CA, whose
// hash is liveCAHash. The error is a *NewTokenError.
func CheckNewToken(s string, current token.Token, liveCAHash string, opts NewTokenOptions) (NewToken, error) {
	if current.Type() == token.Bootstrap {
		return NewToken{}, newTokenError(CurrentIsBootstrap)
	}
	password, problem := newPassword(s, liveCAHash)
	if problem != "" {
		return NewToken{}, newTokenError(problem)
	}
	if err := checkCharacters(password, opts.AllowSpecial); err != nil {
		return NewToken{}, err
	}
	if password == current.Secret.Reveal() {
		return NewToken{}, newTokenError(SameAsCurrent)
	}
	if reason := weakness(password); reason != "" && !opts.AllowWeak {
		return NewToken{}, &NewTokenError{Weak, "the new token is weak: " + reason + "; leave it out to have one generated"}
	}
	return NewToken{token.Secret(password)}, nil
}

// GenerateNewToken draws a new server token from a source such as
// crypto/rand.Reader: 32 hexadecimal digits, and not one of the rare ones that
// CheckNewToken refuses, such as those that YAML reads as a number.
func GenerateNewToken(random io.Reader) (NewToken, error) {
	for range 10 {
		drawn, err := token.GeneratePassword(random, token.UserServer)
		if err != nil {
			return NewToken{}, err
		}
		if n, err := CheckNewToken(drawn.Secret.Reveal(), token.Token{}, "", NewTokenOptions{}); err == nil {
			return n, nil
		}
	}
	return NewToken{}, errors.New("the source of randomness draws guessable tokens only: it is broken")
}

// newPassword takes the password out of what may be a token in secure format.
func newPassword(s, liveCAHash string) (string, Problem) {
	switch {
	case s == "":
		return "", Empty
	case len(s) > MaxPassword+256: // room for the rest of a secure format
		return "", TooLong
	}
	if strings.HasPrefix(s, "K10") {
		t, err := token.Parse(s)
		switch {
		case err != nil:
			return "", SecureForm
		case t.Type() == token.Bootstrap:
			return "", BootstrapForm
		case t.CAHash == "":
			return "", SecureForm
		case t.User != token.UserServer:
			return "", OtherUser
		case t.CAHash != liveCAHash:
			return "", OtherCA
		}
		s = t.Secret.Reveal()
	}
	switch _, err := token.ParseBootstrap(s); {
	case err == nil:
		return "", BootstrapForm
	case len(s) > MaxPassword:
		return "", TooLong
	case strings.HasPrefix(s, "K10"):
		return "", SecureForm
	}
	return s, ""
}

// checkCharacters refuses the characters that make trouble, by position and
// kind, without naming them.
func checkCharacters(password string, allowSpecial bool) error {
	for i := range len(password) {
		switch c := password[i]; {
		case c >= 0x80:
			return refuseCharacter(NonASCII, i, "is not ASCII")
		case c == ' ' || c >= '\t' && c <= '\r':
			return refuseCharacter(WhiteSpace, i, "is white space")
		case c < ' ' || c == 0x7f:
			return refuseCharacter(Control, i, "is a control character")
		}
	}
	if allowSpecial {
		return nil
	}
	for i := range len(password) {
		c := password[i]
		if !isAlphanumeric(c) && strings.IndexByte("-_.+/=", c) < 0 {
			return refuseCharacter(Special, i, "is none of a-z, A-Z, 0-9 and - _ . + / =, and can break the env files, YAML and systemd units that hold the token")
		}
	}
	switch {
	case password[0] == '-' || password[0] == '=':
		return refuseCharacter(Special, 0, "is none that a value can start with in every file and command line: let a letter or a digit come first")
	case isYAMLScalar(password):
		return &NewTokenError{Special, "the new token reads as a number or a word with a meaning in YAML, so that K3s would read another value from config.yaml: add a letter at its start"}
	}
	return nil
}

func refuseCharacter(p Problem, i int, why string) *NewTokenError {
	return &NewTokenError{p, fmt.Sprintf("character %d of the new token %s", i+1, why)}
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isYAMLScalar tells whether YAML takes an unquoted string for something else
// than a string: a number of any notation, a date, a boolean or null.
func isYAMLScalar(s string) bool {
	plain := strings.TrimLeft(strings.ReplaceAll(s, "_", ""), "+-")
	if f, err := strconv.ParseFloat(plain, 64); err == nil || math.IsInf(f, 0) {
		return true
	}
	if _, err := strconv.ParseUint(plain, 0, 64); err == nil {
		return true
	}
	switch strings.TrimLeft(strings.ToLower(s), "+.") {
	case "", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		return true
	}
	return strings.Trim(s, "0123456789-") == ""
}

// weakness says why a password is weak, or nothing.
//
// It is a sieve for what people type, not a measure of strength: a password
// that comes out of a random generator passes, and whatever is made of words
// that everybody tries first, of the keys in their order, or of one short piece
// over and over, does not.
func weakness(password string) string {
	if len(password) < MinPassword {
		return fmt.Sprintf("it has fewer than %d characters", MinPassword)
	}
	rest := core(strings.ToLower(password))
	distinct := map[rune]bool{}
	for _, c := range rest {
		distinct[c] = true
	}
	if len(rest) < minCore || len(distinct) < minDistinct {
		return "it can be guessed, being made of common words, runs or repetitions"
	}
	return ""
}

// core takes out of a password, in lower case, what a guesser knows: a
// repeated piece counts once, and every common word and every run of four or
// more characters (the same one, or neighbours in the alphabet, in the digits
// or on a keyboard, either way round) counts as one character.
func core(s string) string {
	s = period(s)
	for _, word := range []string{
		"kubernetes", "password", "passwort", "changeme", "bootstrap", "default", "rancher", "cluster", "welcome", "letmein",
		"server", "secret", "docker", "master", "dragon", "monkey", "agent", "admin", "token", "login", "hello", "world",
		"k3s", "rke2", "kube", "node", "root", "test", "demo", "prod", "pass", "temp", "user",
	} {
		s = strings.ReplaceAll(s, word, "*")
	}
	return withoutRuns(s)
}

// period returns the shortest piece whose repetition makes the whole, its end
// perhaps cut: that of "abcabca" is "abc".
func period(s string) string {
	for n := 1; n <= len(s)/2; n++ {
		if s[n:] == s[:len(s)-n] {
			return s[:n]
		}
	}
	return s
}

// withoutRuns puts one character in the place of every run.
func withoutRuns(s string) string {
	const shortest = 4
	var out strings.Builder
	for i := 0; i < len(s); {
		end := i + 1
		for _, row := range []string{
			"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm",
		} {
			for _, step := range []int{1, -1} {
				end = max(end, runEnd(s, i, row, step))
			}
		}
		same := i + 1
		for same < len(s) && s[same] == s[i] {
			same++
		}
		if end = max(end, same); end-i < shortest {
			end = i + 1
		}
		out.WriteByte(s[i])
		i = end
	}
	return out.String()
}

// runEnd returns where a run ends that starts at i and goes along the row.
func runEnd(s string, i int, row string, step int) int {
	at := strings.IndexByte(row, s[i])
	if step < 0 {
		at = strings.LastIndexByte(row, s[i])
	}
	if at < 0 {
		return i + 1
	}
	for i++; i < len(s); i++ {
		at += step
		if at < 0 || at >= len(row) || row[at] != s[i] {
			break
		}
	}
	return i
}
