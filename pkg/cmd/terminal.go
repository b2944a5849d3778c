package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/printers"
)

// printable escapes what would steer a terminal, or deceive its reader, in
// text of others: control characters, line breaks and bidirectional marks.
func printable(s string) string { return escape(s, "") }

// escape writes each rune that does not print as Go would in a string, but for
// those in keep.
func escape(s, keep string) string {
	shown := func(r rune, size int) bool {
		return (unicode.IsPrint(r) && (r != utf8.RuneError || size > 1)) || strings.ContainsRune(keep, r)
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return (r < ' ' || r > '~') && !strings.ContainsRune(keep, r) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case shown(r, size):
			b.WriteString(s[i : i+size])
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// writeResult writes the whole result of a command to stdout. A terminal gets
// it escaped; a file or a pipe gets the data alone.
func (e *Env) writeResult(result []byte) error {
	if printers.IsTerminal(e.Out) {
		result = []byte(escape(string(result), "\n\t"))
	}
	n, err := e.Out.Write(result)
	if err == nil && n < len(result) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return &outputError{err}
	}
	return nil
}

// outputError is a failure to write the result.
type outputError struct{ err error }

func (e *outputError) Error() string {
	return fmt.Sprintf("standard output: %v", e.err)
}

func (e *outputError) Unwrap() error { return e.err }

// errNotConfirmed is returned where the user did not agree to what was asked.
var errNotConfirmed = errors.New("not confirmed: nothing was changed")

// canAsk tells whether there is a terminal to ask the user on.
func (e *Env) canAsk() bool { return printers.IsTerminal(e.In) && printers.IsTerminal(e.ErrOut) }

func errCannotAsk(what string) error {
	return fmt.Errorf("there is no terminal to ask on: add --yes to %s", what)
}

// askSecret reads a line from the terminal that the terminal does not show.
func (e *Env) askSecret(ctx context.Context, prompt string) (string, error) {
	in, ok := e.In.(*os.File)
	if !ok {
		return "", errors.New("standard input is no terminal")
	}
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	if _, err := fmt.Fprint(e.ErrOut, prompt); err != nil {
		return "", err
	}
	stop := keepEchoOff(fd, func() { _, _ = fmt.Fprint(e.ErrOut, prompt) })
	restore := func() error {
		stop()
		return term.Restore(fd, before)
	}
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		answers <- answer{line, err}
	}()
	defer e.note("")
	select {
	case <-ctx.Done():
		// The reader is left behind, and with it a terminal without echo: as
		// soon as it has come to switch that off.
		time.Sleep(50 * time.Millisecond)
		return "", errors.Join(context.Cause(ctx), restore())
	case a := <-answers:
		// The reader has done so, but may have taken the modes of a process that
		// continued for those from before.
		_ = restore()
		return string(a.line), a.err
	}
}

// confirm asks on the terminal whether to do something, such as "delete all
// tokens", and returns nil for a yes. Where there is no terminal to ask on, it
// names the flag that answers instead.
func (e *Env) confirm(ctx context.Context, what string) error {
	if !e.canAsk() {
		return errCannotAsk(what)
	}
	if _, err := fmt.Fprintf(e.ErrOut, "Do you want to %s? [y/N] ", printable(what)); err != nil {
		return err
	}
	answer := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(e.In).ReadString('\n')
		if err != nil {
			// On Windows Ctrl-C ends the input, a moment before it interrupts.
			time.Sleep(50 * time.Millisecond)
		}
		answer <- line
	}()
	select {
	case <-ctx.Done():
		e.note("")
		return context.Cause(ctx)
	case line := <-answer:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return nil
		}
		return errNotConfirmed
	}
}

// progress shows how far a long work is, on a terminal only.
type progress struct {
	out   io.Writer
	verb  string
	total int
	shown bool
	width int // of what stands on the screen
}

func (e *Env) newProgress(verb string, total int) *progress {
	return &progress{out: e.ErrOut, verb: verb, total: total, shown: total > 1 && printers.IsTerminal(e.ErrOut)}
}

// step shows that n of the total are done. It is cheap to call for each.
func (p *progress) step(n int) {
	if p.shown && (n%32 == 0 || n == p.total) {
		line := fmt.Sprintf("%s %d of %d", p.verb, n, p.total)
		_, _ = fmt.Fprintf(p.out, "\r%s", line)
		p.width = max(p.width, len(line))
	}
}

// clear takes the progress off the screen, without an escape sequence, which
// not every Windows console knows.
func (p *progress) clear() {
	if p.shown {
		_, _ = fmt.Fprintf(p.out, "\r%*s\r", p.width, "")
	}
}
