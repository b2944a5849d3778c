package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
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
func (s Streams) ReadOneToken(ctx context.Context, args []string, flag, file string) (t token.Token, err error) {
	var text string
	if flag != "" {
		args = append(args, flag)
	}
	env := os.Getenv(EnvToken)
	switch {
	case len(args) > 1, len(args) == 1 && file != "":
		err = hint.New("the token is given twice", "give it in one way alone")
	case len(args) == 1:
		text, err = s.ReadToken(ctx, args[0])
	case file != "":
		text, err = ReadTokenFile(ctx, file)
	case env != "":
		text, err = cleanFrom(EnvToken, env)
	default:
		err = ErrNoToken
	}
	if err != nil {
		return t, err
	}
	return token.Parse(text)
}

// ReadRefs returns the tokens that the arguments name. "-" stands for those on
// standard input, one a line. The error names the position of each malformed one.
// There must be arguments unless a flag has selected tokens.
func (s Streams) ReadRefs(ctx context.Context, args []string, selected bool) ([]bootstrap.Ref, error) {
	if (len(args) > 0) == selected {
		return nil, hint.New("name the tokens, or select them with one flag", "give TOKEN..., or a flag such as --selector")
	}
	var refs []bootstrap.Ref
	var errs []error
	add := func(position, text string) {
		var ref bootstrap.Ref
		clean, err := token.Clean(text)
		if err == nil {
			ref, err = bootstrap.ParseRef(clean)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", position, err))
		}
		refs = append(refs, ref)
	}
	for i, arg := range args {
		if arg != "-" {
			add(fmt.Sprintf("TOKEN %d", i+1), arg)
			continue
		}
		text, err := s.readInput(ctx)
		if err != nil {
			return nil, err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if strings.TrimSpace(line) != "" {
				add(fmt.Sprintf("line %d of standard input", i+1), line)
			}
		}
	}
	if len(refs) == 0 && len(args) > 0 {
		return nil, errors.New("standard input is empty, expected tokens, one a line")
	}
	return refs, errors.Join(errs...)
}

// GivenURLs returns the servers that a flag names, each once. Without a value it returns
// the one of K3S_URL.
func GivenURLs(flag string, values []string) (urls []supervisor.URL, err error) {
	if env := os.Getenv("K3S_URL"); len(values) == 0 && env != "" {
		flag, values = "K3S_URL", []string{env}
	}
	for _, value := range values {
		url, err := supervisor.ParseURL(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls, nil
}
