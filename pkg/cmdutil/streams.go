// Package cmdutil has the code that verbs share: clients from kubectl's flags, output
// and its tables, errors with hints, prompts, and the reading of tokens.
package cmdutil

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// Streams are the standard streams of a command. Out has the result alone.
type Streams struct {
	genericiooptions.IOStreams
}

// Warnf prints a warning to stderr, as kubectl does.
func (s Streams) Warnf(format string, args ...any) {
	options := printers.WarningPrinterOptions{Color: printers.AllowsColorOutput(s.ErrOut)}
	printers.NewWarningPrinter(s.ErrOut, options).Print(printers.EscapeTerminal(fmt.Sprintf(format, args...)))
}

// Notef prints a note to stderr.
func (s Streams) Notef(format string, args ...any) {
	_ = printers.WriteEscaped(s.ErrOut, fmt.Sprintf(format, args...)+"\n")
}

// Print writes obj to stdout in one piece: a template that fails leaves nothing
// half printed.
func (s Streams) Print(ctx context.Context, printer printers.ResourcePrinter, obj runtime.Object) error {
	var out bytes.Buffer
	if err := printer.PrintObj(obj, &out); err != nil {
		return err
	}
	return s.Write(ctx, out.Bytes())
}

// Write writes a result to stdout, escaped on a terminal. After an interrupt it waits
// only a few seconds for a slow reader.
func (s Streams) Write(ctx context.Context, result []byte) error {
	if printers.IsTerminal(s.Out) {
		result = []byte(printers.EscapeTerminal(string(result)))
	}
	ctx, cancel := bootstrap.WithGrace(ctx)
	defer cancel()
	_, err := Await(ctx, func() (int, error) { return s.Out.Write(result) })
	return err
}

// CanAsk reports whether there is a terminal to ask the user on.
func (s Streams) CanAsk() bool {
	return printers.IsTerminal(s.In) && printers.IsTerminal(s.ErrOut)
}

// Confirm returns an error unless the user says yes to a question such as "delete
// all 3 tokens?".
func (s Streams) Confirm(ctx context.Context, question string) error {
	if !s.CanAsk() {
		return hint.New("confirmation needed, but there is no terminal to ask on", "add --yes to "+strings.TrimSuffix(question, "?"))
	}
	_ = printers.WriteEscaped(s.ErrOut, "Do you want to "+question+" [y/N] ")
	answer, err := Await(ctx, func() (string, error) { return bufio.NewReader(s.In).ReadString('\n') })
	if ctx.Err() != nil {
		s.Notef("")
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not confirmed: nothing was changed")
}

// AskSecret reads a line from the terminal without showing it, if CanAsk.
func (s Streams) AskSecret(ctx context.Context, prompt string) (string, error) {
	terminal := int(s.In.(*os.File).Fd())
	state, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	defer term.Restore(terminal, state) //nolint:errcheck // nothing is left to be done about it
	_ = printers.WriteEscaped(s.ErrOut, prompt)
	line, err := Await(ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	s.Notef("")
	return string(line), err
}

// Await calls f and returns its result, or the cause of ctx if that ends first.
// It is for calls that take no context, such as reading a terminal: f is left behind.
func Await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
