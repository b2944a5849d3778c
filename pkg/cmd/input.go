package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// maxInput bounds what is read from standard input and token files, in bytes.
const maxInput = 16 << 20

// readLimited reads all there is, up to maxInput, as text. Windows editors begin
// that with a byte order mark.
func readLimited(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	switch s := string(b); {
	case err != nil:
		return "", err
	case len(b) > maxInput:
		return "", fmt.Errorf("more than %d bytes of input", maxInput)
	case strings.HasPrefix(s, "\xff\xfe"), strings.HasPrefix(s, "\xfe\xff"):
		return "", errors.New("it is text in UTF-16, as PowerShell 5 writes it: save it as UTF-8")
	default:
		return strings.TrimPrefix(s, "\ufeff"), nil
	}
}

// refuseEmpty refuses flags that are given without a value, as happens where a
// script's variable is not set.
func refuseEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return fmt.Errorf("--%s is empty: give it a value, or leave it out", name)
		}
	}
	return nil
}

// noArguments is cobra.NoArgs, but for not repeating what may be a token.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q takes no arguments\nSee '%s --help' for usage.", cmd.CommandPath(), cmd.CommandPath()) //nolint:staticcheck,revive // kubectl's wording
	}
	return nil
}

func atMostOneToken(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		// The arguments may be secrets, so none is named.
		return fmt.Errorf("%d arguments given: it takes one TOKEN at most", len(args))
	}
	return nil
}

// readToken returns the token that an argument names: itself, or what standard
// input holds for "-".
func (e *Env) readToken(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	input, err := readLimited(e.In)
	if err != nil {
		return "", fmt.Errorf("read the token from standard input: %w", err)
	}
	return oneLine(input, "standard input")
}

// readTokenFile returns the token that a file holds.
func readTokenFile(name string) (string, error) {
	if name == "-" {
		return "", errors.New(`"-" is no file: to read a token from standard input, give "-" as the TOKEN itself`)
	}
	file, err := os.Open(name) //nolint:gosec // reading the file that the user names is the point
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	content, err := readLimited(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return oneLine(content, name)
}

// oneLine takes off the white space around a token, such as the line end that
// editors and echo put behind it, as K3s does with its --token-file (ReadFile in
// its pkg/util).
func oneLine(content, source string) (string, error) {
	line := strings.TrimSpace(content)
	switch {
	case line == "":
		return "", fmt.Errorf("%s is empty: it should hold a token", source)
	case strings.ContainsAny(line, "\r\n"):
		return "", fmt.Errorf("%s has several lines: it should hold one token", source)
	}
	return line, nil
}

// readBootstrapToken returns the <id>.<secret> that an argument names.
func (e *Env) readBootstrapToken(arg string) (token.Token, error) {
	s, err := e.readToken(arg)
	if err != nil {
		return token.Token{}, err
	}
	if strings.HasPrefix(s, "K10") {
		return token.Token{}, errors.New("malformed TOKEN: it is in secure format; give <id>.<secret> alone, the CA hash is computed")
	}
	t, err := token.ParseBootstrap(s)
	if err != nil {
		return token.Token{}, fmt.Errorf("malformed TOKEN: %w", err)
	}
	return t, nil
}

// readRefs returns the tokens that the arguments name, once each; "-" stands
// for those on standard input, one a line.
func (e *Env) readRefs(args []string) ([]bootstrap.Ref, error) {
	var refs []bootstrap.Ref
	seen := map[bootstrap.Ref]bool{}
	var errs []error
	add := func(s, where string) {
		ref, err := bootstrap.ParseRef(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		} else if !seen[ref] {
			seen[ref] = true
			refs = append(refs, ref)
		}
	}
	for i, arg := range args {
		if arg != "-" {
			add(arg, fmt.Sprintf("TOKEN %d", i+1))
			continue
		}
		input, err := readLimited(e.In)
		if err != nil {
			return nil, fmt.Errorf("read tokens from standard input: %w", err)
		}
		for n, line := range strings.Split(input, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				add(line, fmt.Sprintf("line %d of standard input", n+1))
			}
		}
		if len(refs) == 0 && len(errs) == 0 {
			return nil, errors.New("standard input names no token: give one a line")
		}
	}
	// Nothing is done with half a list.
	return refs, errors.Join(errs...)
}
