package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// EnvToken is the variable with a token that K3s itself reads.
const EnvToken = "K3S_TOKEN"

// ErrNoToken is returned if no token is given in any way.
var ErrNoToken = hint.Wrap(errors.New("no token given"), `give a TOKEN, "-" to read standard input, --token-file or %s`, EnvToken)

func (s Streams) readInput(ctx context.Context) ([]byte, error) {
	return Await(ctx, func() ([]byte, error) { return io.ReadAll(s.In) })
}

// ReadToken returns the token that an argument gives: itself, or for "-" the one
// on standard input.
func (s Streams) ReadToken(ctx context.Context, arg string) (string, error) {
	if arg != "-" {
		return token.Clean(arg)
	}
	text, err := s.readInput(ctx)
	if err != nil {
		return "", err
	}
	return cleanFrom("standard input", string(text))
}

// ReadTokenFile returns the token in a file, which may be a pipe.
func ReadTokenFile(ctx context.Context, name string) (string, error) {
	text, err := Await(ctx, func() ([]byte, error) { return os.ReadFile(name) }) //nolint:gosec // the file that the user names
	if err != nil {
		return "", err
	}
	return cleanFrom(name, string(text))
}

func cleanFrom(source, text string) (string, error) {
	clean, err := token.Clean(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", source, err)
	}
	return clean, err
}

// ReadOneToken returns the token of a command: an argument, --token, the file of
// --token-file, or else K3S_TOKEN. Without any of them the error is ErrNoToken.
func (s Streams) ReadOneToken(ctx context.Context, args []string, flag, file string) (token.Token, error) {
	var text string
	var err error
	env := os.Getenv(EnvToken)
	switch {
	case len(args)+min(len(flag), 1)+min(len(file), 1) > 1:
		err = hint.New("the token is given twice", "give it in one way alone")
	case len(args) == 1:
		text, err = s.ReadToken(ctx, args[0])
	case flag != "":
		text, err = s.ReadToken(ctx, flag)
	case file != "":
		text, err = ReadTokenFile(ctx, file)
	case env != "":
		text, err = cleanFrom(EnvToken, env)
	default:
		err = ErrNoToken
	}
	if err != nil {
		return token.Token{}, err
	}
	return token.Parse(text)
}

// ReadRefs returns the tokens that the arguments name. "-" stands for those on
// standard input, one a line. The error names the position of each malformed one,
// unless it is the only argument.
func (s Streams) ReadRefs(ctx context.Context, args []string) ([]bootstrap.Ref, error) {
	var refs []bootstrap.Ref
	var errs []error
	alone := len(args) == 1 && args[0] != "-"
	add := func(text, position string, number int) {
		var ref bootstrap.Ref
		text, err := token.Clean(text)
		if err == nil {
			ref, err = bootstrap.ParseRef(text)
		}
		if err != nil && !alone {
			err = fmt.Errorf(position+": %w", number, err)
		}
		refs, errs = append(refs, ref), append(errs, err)
	}
	for i, arg := range args {
		if arg != "-" {
			add(arg, "TOKEN %d", i+1)
			continue
		}
		text, err := s.readInput(ctx)
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if strings.TrimSpace(line) != "" {
				add(line, "line %d of standard input", i+1)
			}
		}
	}
	if len(refs) == 0 && len(args) > 0 {
		return nil, errors.New("standard input is empty, expected tokens, one a line")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return refs, nil
}
