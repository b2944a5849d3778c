package token

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// ParseError tells which part of a token is malformed. It holds nothing of the
// token itself.
type ParseError struct {
	Part   string // "token", "CA hash", "credentials", "token id" or "token secret"
	Reason string // the rule that the part breaks, such as "must not be empty"
	Remedy string // advice, such as "remove the quotes around it", or empty
}

func (e *ParseError) Error() string { return "invalid " + e.Part + ": " + e.Reason }

// Hint returns advice for the person who gave the token.
func (e *ParseError) Hint() string { return cmp.Or(e.Remedy, "check that the whole token was copied") }

// Parse returns the token in s, by the rules of K3s (parseToken in
// pkg/clientaccess/token.go). Any string without the prefix K10 that is not a
// bootstrap token is a password. Unlike K3s, Parse also rejects a CA hash that is
// not in lower-case hexadecimal digits: it can never match. The error is a
// *ParseError.
func Parse(s string) (Token, error) {
	if s == "" {
		return Token{}, &ParseError{Part: "token", Reason: "must not be empty"}
	}
	rest, secure := strings.CutPrefix(s, prefix)
	if !secure {
		if t, err := ParseBootstrap(s); err == nil {
			return t, nil
		}
		return Token{Secret: Secret(s)}, nil
	}
	hash, credentials, ok := strings.Cut(rest, "::")
	if !ok {
		hash, credentials = "", rest
	}
	if err := check("CA hash", hash, 64, "0-9a-f"); hash != "" && err != nil {
		return Token{}, err
	}
	t, err := parseCredentials(credentials)
	if err != nil {
		return Token{}, err
	}
	return t.WithCAHash(hash), nil
}

// parseCredentials returns the token of the credentials in secure format.
func parseCredentials(s string) (Token, error) {
	t, err := ParseBootstrap(s)
	if err == nil {
		return t, nil
	}
	user, password, ok := strings.Cut(s, ":")
	switch {
	case password != "":
		return Token{User: user, Secret: Secret(password)}, nil
	case !ok && strings.Contains(s, "."):
		return Token{}, err
	}
	return Token{}, &ParseError{Part: "credentials", Reason: "must be <id>.<secret> or <user>:<password>"}
}

// ParseBootstrap returns the bootstrap token in s, which must be <id>.<secret>: 6
// and 16 characters of a-z and 0-9. The error is a *ParseError.
func ParseBootstrap(s string) (Token, error) {
	id, secret, ok := strings.Cut(s, ".")
	if !ok {
		return Token{}, &ParseError{Part: "token", Reason: "must be <id>.<secret>"}
	}
	if err := check("token id", id, 6, "a-z0-9"); err != nil {
		return Token{}, err
	}
	if err := check("token secret", secret, 16, "a-z0-9"); err != nil {
		return Token{}, err
	}
	return Token{ID: id, Secret: Secret(secret)}, nil
}

// check returns an error if s is not length characters of a class such as a-z.
func check(part, s string, length int, class string) error {
	if len(s) != length {
		return &ParseError{Part: part, Reason: fmt.Sprintf("must be %d characters, got %d", length, len(s))}
	}
	outside := regexp.MustCompile("[^" + class + "]")
	bad := outside.FindStringIndex(s)
	if bad == nil {
		return nil
	}
	err := &ParseError{Part: part, Reason: fmt.Sprintf("character %d is not one of %s", bad[0]+1, class)}
	if !outside.MatchString(strings.ToLower(s)) {
		err.Remedy = "write it in lower case"
	}
	return err
}

// almostBootstrap is a bootstrap token with up to two characters lost or doubled
// in each part, or an id alone, which lists of tokens show.
var almostBootstrap = regexp.MustCompile(`(?s)^([^.]{4,8}\..{14,18}|[a-z0-9]{6})$`)

// Mistyped returns why a password is no bootstrap token, if it was probably meant to be
// one, or nil. K3s takes such a password as it is, and the node fails to join later
// without naming the cause. The error is a *ParseError.
func (t Token) Mistyped() error {
	password := t.Secret.Reveal()
	if t.Type() != Password || !almostBootstrap.MatchString(password) {
		return nil
	}
	_, err := ParseBootstrap(password)
	return err
}
