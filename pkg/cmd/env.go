// Package cmd is the command line of kubectl k3s-token: one file a verb, from
// flags to options to Run, and what the verbs share: the client, printing,
// prompts, errors and completion.
package cmd

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
)

// Env is what the commands take from the process that they run in.
type Env struct {
	// IOStreams are the standard streams. Out carries results only.
	genericiooptions.IOStreams
	// OutIsLost says that nobody gets what is written to Out, and that writing
	// succeeds all the same.
	OutIsLost bool
	// Now is the clock.
	Now func() time.Time
	// Sleep waits before a request is repeated, or returns the context's error
	// if that ends earlier; nil for real time.
	Sleep func(context.Context, time.Duration) error
	// Random is a source fit for secrets, safe for use from several
	// goroutines: crypto/rand.Reader.
	Random io.Reader
	// Getenv reads an environment variable; nil where there are none.
	Getenv func(name string) string
	// SystemCAs returns the CAs that this computer trusts; nil for none.
	SystemCAs func() (*x509.CertPool, error)
	// Build says which build of the plugin this is.
	Build Build

	interrupts *interrupts // set by Run
}

func (e *Env) getenv(name string) string {
	if e.Getenv == nil {
		return ""
	}
	return e.Getenv(name)
}

// Build says which build of the plugin this is; a release sets all three.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"`
}

// Interrupted is the cause of a context that a signal has cancelled.
type Interrupted struct {
	// ExitCode is what a shell expects of a process that the signal ended:
	// 128 and the number of the signal.
	ExitCode int
}

func (Interrupted) Error() string { return "interrupted" }

func interruption(ctx context.Context) (Interrupted, bool) {
	var interrupted Interrupted
	return interrupted, errors.As(context.Cause(ctx), &interrupted)
}

// warn tells the user, on stderr, of something that is no failure.
func (e *Env) warn(format string, args ...any) {
	printer := printers.NewWarningPrinter(e.ErrOut, printers.WarningPrinterOptions{Color: printers.AllowsColorOutput(e.ErrOut)})
	printer.Print(escape(fmt.Sprintf(format, args...), "\t"))
}

// note tells the user, on stderr, what was done.
func (e *Env) note(format string, args ...any) {
	// Nothing is to be done about a stderr that cannot be written to.
	_, _ = fmt.Fprintln(e.ErrOut, escape(fmt.Sprintf(format, args...), "\t"))
}
