// Package token parses and formats K3s join tokens and computes their CA hash.
// It depends on the standard library alone, and opens neither files nor
// connections.
//
// K3s has two formats of tokens (https://docs.k3s.io/cli/token):
//
//	secure:  K10<CA hash>::<credentials>
//	short:   <credentials>, without a user name
//
// and two kinds of credentials: those of a bootstrap token, <id>.<secret>, and
// those of the server token or the agent token, <user>:<password>.
//
// A node that joins with a token in secure format compares the CA hash with the
// CA certificates of its server. With a token in short format it trusts any
// server.
package token

import (
	"crypto/rand"
	"fmt"
)

// prefix starts a token in secure format: tokenPrefix of K3s
// (pkg/clientaccess/token.go).
const prefix = "K10"

// The user names of passwords in secure format (K3s: pkg/server/auth).
const (
	UserServer = "server" // of the server token
	UserNode   = "node"   // of the agent token
)

// Type is the kind of credentials in a token, which decides who can join.
type Type string

// The types of tokens.
const (
	Bootstrap Type = "bootstrap" // joins agents; the cluster keeps it as a Secret
	Server    Type = "server"    // joins servers and agents
	Agent     Type = "agent"     // joins agents
	Password  Type = "password"  // of an unknown user: mostly a server or agent token in short format
)

// Secret is the confidential part of a token. It prints as asterisks with every
// verb of fmt and in JSON, so that a log line cannot leak it.
type Secret string

// GeneratePassword returns a random password of 32 hexadecimal digits, as K3s
// generates its own server token (pkg/daemons/control/deps).
func GeneratePassword() Secret {
	var b [16]byte
	_, _ = rand.Read(b[:]) // It never returns an error.
	return Secret(fmt.Sprintf("%x", b))
}

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns asterisks.
func (Secret) String() string { return "******" }

// Format prints asterisks, also with verbs that do not fit a string, such as %d.
func (s Secret) Format(f fmt.State, verb rune) {
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), s.String())
}

// MarshalText returns asterisks.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Token is a K3s token. The zero value is not a token.
type Token struct {
	CAHash string // of the cluster, 64 hexadecimal digits; empty in short format
	ID     string // the public part of a bootstrap token; empty for a password
	User   string // of a password: UserServer or UserNode; empty if it is not known
	Secret Secret // the secret part of a bootstrap token, or the password
}

// Type returns the type of the token.
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

// WithCAHash returns the token with that CA hash, or in short format if the hash
// is empty.
func (t Token) WithCAHash(hash string) Token {
	t.CAHash = hash
	return t
}

// Reveal returns the token as a joining node takes it, with its secret.
func (t Token) Reveal() string {
	credentials := t.Secret.Reveal()
	switch {
	case t.ID != "":
		credentials = t.ID + "." + credentials
	case t.CAHash != "":
		credentials = t.User + ":" + credentials
	}
	if t.CAHash == "" {
		return credentials
	}
	return prefix + t.CAHash + "::" + credentials
}

// String returns the token with asterisks in place of its secret.
func (t Token) String() string {
	t.Secret = Secret(t.Secret.String())
	return t.Reveal()
}
