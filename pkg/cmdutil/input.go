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

// maxInput is the most that is read from standard input or a token file, in
// bytes: room for 10,000 tokens.
const maxInput = 4 << 20

// AtMostOneToken is cobra.MaximumNArgs(1), whose error would repeat arguments
// that may be secrets.
func AtMostOneToken(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("accepts at most one TOKEN, received %d arguments", len(args))
	}
	return nil
}

// NoArguments is cobra.NoArgs, whose error would repeat arguments that may be
// secrets.
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

// readText reads all there is, up to maxInput, without the byte order mark that
// Windows editors put first.
func readText(ctx context.Context, r io.Reader) (string, error) {
	text, err := Await(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxInput+1)) })
	if err == nil && len(text) > maxInput {
		err = fmt.Errorf("more than %d bytes", maxInput)
	}
	return strings.TrimPrefix(string(text), "\ufeff"), err
}

// oneToken takes away the white space around a token.
func oneToken(text, source string) (string, error) {
	token := strings.TrimSpace(text)
	switch {
	case token == "":
		return "", fmt.Errorf("%s is empty, expected a token", source)
	case strings.ContainsAny(token, "\r\n"):
		return "", fmt.Errorf("%s has several lines, expected one token", source)
	}
	return token, nil
}

// ReadToken returns the token that an argument gives: itself, or for "-" the one
// on standard input.
func (s Streams) ReadToken(ctx context.Context, arg string) (string, error) {
	if arg != "-" {
		return oneToken(arg, "TOKEN")
	}
	text, err := readText(ctx, s.In)
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return oneToken(text, "standard input")
}

// ReadTokenFile returns the token in a file.
func ReadTokenFile(ctx context.Context, name string) (string, error) {
	if name == "-" {
		return "", WithHint(errors.New(`"-" is no file`), `give "-" as the TOKEN itself to read standard input`)
	}
	// Opening a named pipe waits for its writer.
	file, err := Await(ctx, func() (*os.File, error) { return os.Open(name) }) //nolint:gosec // the file that the user names
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	text, err := readText(ctx, file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return oneToken(text, name)
}

// ReadRefs returns the tokens that the arguments name; "-" stands for those on
// standard input, one a line. Nothing is returned if one of them is malformed.
func (s Streams) ReadRefs(ctx context.Context, args []string) ([]bootstrap.Ref, error) {
	var refs []bootstrap.Ref
	var errs []error
	add := func(text, position string) {
		ref, err := bootstrap.ParseRef(strings.TrimSpace(text))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", position, err))
			return
		}
		refs = append(refs, ref)
	}
	for i, arg := range args {
		if arg != "-" {
			add(arg, fmt.Sprintf("TOKEN %d", i+1))
			continue
		}
		text, err := readText(ctx, s.In)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		if strings.TrimSpace(text) == "" {
			return nil, errors.New("standard input is empty, expected tokens, one a line")
		}
		number := 0
		for line := range strings.Lines(text) {
			if number++; strings.TrimSpace(line) != "" {
				add(line, fmt.Sprintf("line %d of standard input", number))
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return refs, nil
}
