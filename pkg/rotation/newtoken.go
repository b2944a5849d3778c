package rotation

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

var (
	// safePassword matches a password that needs no quotes in env files, YAML and
	// systemd units.
	safePassword = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~+=-]{15,}$`)
	// yamlNumber matches a number or a date of YAML. From config.yaml K3s would take
	// another password.
	yamlNumber = regexp.MustCompile(`^[0-9][0-9._eE+-]*$|^0x[0-9A-Fa-f_]+$|^0o[0-7_]+$|^0b[01_]+$`)
)

const (
	hintCurrent  = "give the server token: it is in server/token of a server's data directory"
	hintGenerate = "leave out the new token to have one generated"
	hintPassword = "give the password alone"
	hintSafe     = "give 16 or more of A-Z a-z 0-9 . _ ~ + = -, a letter or digit first, or add --allow-unsafe-token"
)

// NewToken returns the server token that replaces the current one. The text is
// the password or K10<CA hash>::server:<password>; if it is empty, a password is
// generated. A password that K3s does not survive is refused. Unless allowUnsafe
// is set, so is one that is short or breaks configuration files.
func NewToken(text string, current token.Token, allowUnsafe bool) (token.Token, error) {
	if kind := current.Type(); kind == token.Bootstrap || kind == token.Agent {
		return token.Token{}, hint.New(fmt.Sprintf("the current token is of type %s", kind), hintCurrent)
	}
	for generate := text == ""; generate; generate = yamlNumber.MatchString(text) {
		text = token.GeneratePassword().Reveal()
	}
	next, err := token.Parse(text)
	if err != nil || strings.HasPrefix(text, "K10") && next.User != token.UserServer {
		return token.Token{}, hint.New("the new token is not K10<CA hash>::server:<password>", hintPassword)
	}
	next.User = token.UserServer
	if err := checkPassword(next, current, allowUnsafe); err != nil {
		return token.Token{}, err
	}
	return next, nil
}

func checkPassword(next, current token.Token, allowUnsafe bool) error {
	s := next.Secret.Reveal()
	_, notBootstrap := token.ParseBootstrap(s)
	switch {
	case next.ID != "" || notBootstrap == nil: // K3s does not start again: k3s-io/k3s#12982
		return hint.New("the new token has the form of a bootstrap token, <id>.<secret>", hintGenerate)
	case strings.HasPrefix(s, "K10"): // K3s writes a malformed token file
		return hint.New("the password of the new token starts with K10", hintGenerate)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return hint.New("the new token has white space, control or non-ASCII characters", hintGenerate)
	case next.Secret == current.Secret:
		return hint.New("the new token is the current one", hintGenerate)
	case !allowUnsafe && (!safePassword.MatchString(s) || yamlNumber.MatchString(s)):
		return hint.New("the new token is short, like a number, or has special characters", hintSafe)
	}
	return nil
}
