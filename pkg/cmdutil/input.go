package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// AtMostOneToken is cobra.MaximumNArgs(1). The error does not repeat arguments,
// which may be secrets.
func AtMostOneToken(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("accepts at most one TOKEN, received %d arguments", len(args))
	}
	return nil
}

// NoArguments is cobra.NoArgs, with such an error.
func NoArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q accepts no arguments, received %d", cmd.CommandPath(), len(args))
	}
	return nil
}

// RefuseEmpty is for flags that a script gives with a variable that is not set.
func RefuseEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return WithHint(fmt.Errorf("--%s is empty", name), "give it a value, or leave it out")
		}
	}
	return nil
}

// trim takes away white space, and the byte order mark of Windows editors.
func trim(text string) string { return strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) }

// oneToken returns the token in a text.
func oneToken(text, source string) (string, error) {
	token := trim(text)
	switch {
	case token == "":
		return "", fmt.Errorf("%s is empty, expected a token", source)
	case strings.ContainsAny(token, "\r\n"):
		return "", fmt.Errorf("%s has several lines, expected one token", source)
	}
	return token, nil
}

func (s Streams) readInput(ctx context.Context) (string, error) {
	text, err := Await(ctx, func() ([]byte, error) { return io.ReadAll(s.In) })
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return string(text), nil
}

// ReadToken returns the token that an argument gives: itself, or for "-" the one
// on standard input.
func (s Streams) ReadToken(ctx context.Context, arg string) (string, error) {
	if arg != "-" {
		return oneToken(arg, "TOKEN")
	}
	text, err := s.readInput(ctx)
	if err != nil {
		return "", err
	}
	return oneToken(text, "standard input")
}

// ReadTokenFile returns the token in a file, which may be a pipe.
func ReadTokenFile(ctx context.Context, name string) (string, error) {
	text, err := Await(ctx, func() ([]byte, error) { return os.ReadFile(name) }) //nolint:gosec // the file that the user names
	if err != nil {
		return "", err
	}
	return oneToken(string(text), name)
}

// ReadRefs returns the tokens that the arguments name; "-" stands for those on
// standard input, one a line. A malformed one is an error.
func (s Streams) ReadRefs(ctx context.Context, args []string) ([]bootstrap.Ref, error) {
	var refs []bootstrap.Ref
	var errs []error
	add := func(text, position string, number int) {
		ref, err := bootstrap.ParseRef(trim(text))
		if err != nil {
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
		for i, line := range strings.Split(text, "\n") {
			if trim(line) != "" {
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
