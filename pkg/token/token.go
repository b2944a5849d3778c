// Package token knows what a K3s token is: it parses and formats tokens,
// computes the CA hash that a secure token carries, and draws new tokens.
//
// The package is pure. It opens no connection, reads no file and keeps no
// state; time and randomness are passed in.
//
// K3s knows two formats (https://docs.k3s.io/cli/token):
//
//	secure:  K10<CA hash>::<credentials>
//	short:   <credentials>, without a user name
//
// and two kinds of credentials: a bootstrap token, <id>.<secret>, and the
// password of the server token or the agent token, <user>:<password>.
package token

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// prefix starts every token in secure format. K3s calls it tokenPrefix
	// (pkg/clientaccess/token.go).
	prefix = "K10"

	// CAHashLength is the length of a CA hash: a SHA-256 digest as lower-case
	// hexadecimal digits.
	CAHashLength = 64

	// IDLength is the length of the public part of a bootstrap token
	// (k8s.io/cluster-bootstrap/token/api).
	IDLength = 6
	// SecretLength is the length of its secret part.
	SecretLength = 16

	// MaxLength is the longest token, in bytes, that Parse looks at. K3s sets
	// no limit; a token travels in an HTTP header, which Go's server limits
	// to 1 MiB, and nobody types more than this.
	MaxLength = 64 << 10

	// UserServer is the user name that goes with the password of the server
	// token (K3s: pkg/server/auth).
	UserServer = "server"
	// UserNode is the one that goes with the agent token's.
	UserNode = "node"
)

// Type says what a token is good for.
type Type string

const (
	// Bootstrap is a token <id>.<secret> that the cluster keeps as a Secret.
	Bootstrap Type = "bootstrap"
	// Server is the server token: it joins servers and agents.
	Server Type = "server"
	// Agent is the agent token: it joins agents only.
	Agent Type = "agent"
	// Password is a bare password. Nothing in it tells whether it is the
	// server token's or the agent token's.
	Password Type = "password"
)

// Format is the way a token is written.
type Format string

const (
	// SecureFormat carries the CA hash: the joining node can tell its server
	// from an impostor.
	SecureFormat Format = "secure"
	// ShortFormat is the credentials alone: the joining node trusts whatever
	// server answers.
	ShortFormat Format = "short"
)

// Secret is the part of a token that must not be seen. It prints as
// asterisks, whatever the verb; only Reveal gives it away.
type Secret string

// String hides the secret.
func (Secret) String() string { return "******" }

// Format hides the secret from every verb: without it fmt shows the string
// itself where a verb such as %d does not fit.
func (s Secret) Format(f fmt.State, verb rune) {
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), s.String())
}

// MarshalText hides the secret from encoding/json and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Token is a parsed token. The zero value is no token.
type Token struct {
	// CAHash is the hash of the cluster's CA certificates, or empty where the
	// token has none.
	CAHash string
	// ID is the public part of a bootstrap token, or empty for a password.
	ID string
	// User is the user name that comes with a password, often UserServer or
	// UserNode; empty for a bootstrap token and for a bare password.
	User string
	// Secret is the secret part of a bootstrap token, or the password.
	Secret Secret
}

// Type returns what the token is good for.
func (t Token) Type() Type {
	switch {
	case t.ID != "":
		return Bootstrap
	case t.User == UserServer:
		return Server
	case t.User == UserNode:
		return Agent
	}
	return Password
}

// Format returns how the token was written, or is to be written.
func (t Token) Format() Format {
	if t.CAHash != "" {
		return SecureFormat
	}
	return ShortFormat
}

// Reveal returns the token as a joining node takes it, its secret included:
// in secure format where there is a CA hash, else in short format.
func (t Token) Reveal() string {
	if t.CAHash == "" {
		return t.short()
	}
	creds := t.short()
	if t.ID == "" {
		creds = t.User + ":" + creds
	}
	return prefix + t.CAHash + "::" + creds
}

// WithCAHash returns the token in secure format, for the CA of that hash.
func (t Token) WithCAHash(hash string) Token {
	t.CAHash = hash
	return t
}

// WithoutCAHash returns the token in short format.
func (t Token) WithoutCAHash() Token {
	t.CAHash = ""
	return t
}

// String names the token without its secret.
func (t Token) String() string {
	t.Secret = Secret(t.Secret.String())
	return t.Reveal()
}

// GoString hides the secret from %#v.
func (t Token) GoString() string { return t.String() }

func (t Token) short() string {
	if t.ID != "" {
		return t.ID + "." + t.Secret.Reveal()
	}
	return t.Secret.Reveal()
}

// ParseError says which part of a token is wrong, and why. It never holds
// anything of the token itself.
type ParseError struct {
	// Part is the part that is wrong: "token", "CA hash", "credentials",
	// "token id" or "token secret".
	Part string
	// Reason says what is wrong with it and what would be right.
	Reason string
}

func (e *ParseError) Error() string {
	if e.Part == "token" {
		return e.Reason
	}
	return e.Part + ": " + e.Reason
}

// Parse takes a token apart, by the rules of K3s (parseToken in
// pkg/clientaccess/token.go). It is stricter where K3s takes a token that can
// never work: a CA hash that is not lower-case hexadecimal. The error is a
// *ParseError.
func Parse(s string) (Token, error) {
	switch {
	case s == "":
		return Token{}, &ParseError{"token", "it is empty"}
	case len(s) > MaxLength:
		return Token{}, &ParseError{"token", fmt.Sprintf("it has %d bytes, more than any token (%d)", len(s), MaxLength)}
	}
	rest, secure := strings.CutPrefix(s, prefix)
	if !secure {
		if t, err := ParseBootstrap(s); err == nil {
			return t, nil
		}
		return Token{Secret: Secret(s)}, nil
	}

	var t Token
	if hash, creds, ok := strings.Cut(rest, "::"); ok {
		if err := checkCAHash(hash); err != nil {
			return Token{}, err
		}
		t.CAHash, rest = hash, creds
	}
	if b, err := ParseBootstrap(rest); err == nil {
		return b.WithCAHash(t.CAHash), nil
	}
	user, password, ok := strings.Cut(rest, ":")
	if !ok || password == "" {
		return Token{}, &ParseError{"credentials", "after the CA hash comes <id>.<secret> of a bootstrap token or <user>:<password>, and this is neither"}
	}
	t.User, t.Secret = user, Secret(password)
	return t, nil
}

// ParseBootstrap takes a bootstrap token in short format apart, that is
// <id>.<secret>: six and sixteen of a-z and 0-9. The error is a *ParseError.
func ParseBootstrap(s string) (Token, error) {
	id, secret, ok := strings.Cut(s, ".")
	if !ok {
		return Token{}, &ParseError{"token", "it has no dot: a bootstrap token is <id>.<secret>, six and sixteen of a-z and 0-9"}
	}
	if reason := checkAlphabet(id, IDLength); reason != "" {
		return Token{}, &ParseError{"token id", reason}
	}
	if reason := checkAlphabet(secret, SecretLength); reason != "" {
		return Token{}, &ParseError{"token secret", reason}
	}
	return Token{ID: id, Secret: Secret(secret)}, nil
}

// IsID tells whether s is a bootstrap token's id: six of a-z and 0-9.
func IsID(s string) bool { return checkAlphabet(s, IDLength) == "" }

// IsSecret tells whether s is a bootstrap token's secret: sixteen of a-z and 0-9.
func IsSecret(s Secret) bool { return checkAlphabet(s.Reveal(), SecretLength) == "" }

// LooksLikeBootstrap tells whether a password was meant to be a bootstrap
// token, <id>.<secret>, and why it is none. K3s takes such a password as it
// is, so that the node's join fails later, with no word of the cause.
func LooksLikeBootstrap(t Token) (reason string, ok bool) {
	s := t.Secret.Reveal()
	id, secret, dot := strings.Cut(s, ".")
	if t.ID != "" || !dot || len(id) < IDLength-2 || len(id) > IDLength+2 || len(secret) < SecretLength-2 || len(secret) > SecretLength+2 {
		return "", false
	}
	var parse *ParseError
	if _, err := ParseBootstrap(s); errors.As(err, &parse) {
		return parse.Error(), true
	}
	return "", false
}

func checkCAHash(hash string) error {
	if len(hash) != 0 && len(hash) != CAHashLength {
		return &ParseError{"CA hash", fmt.Sprintf("it has %d characters instead of %d: was the token cut while it was copied?", len(hash), CAHashLength)}
	}
	for i := range len(hash) {
		if c := hash[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return &ParseError{"CA hash", fmt.Sprintf("character %d is not a lower-case hexadecimal digit", i+1)}
		}
	}
	return nil
}

// checkAlphabet returns why s is not n characters of a-z and 0-9, or nothing.
func checkAlphabet(s string, n int) string {
	if len(s) != n {
		return fmt.Sprintf("it has %d characters instead of %d", len(s), n)
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Sprintf("character %d is not one of a-z and 0-9", i+1)
		}
	}
	return ""
}
