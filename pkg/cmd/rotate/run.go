package rotate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
)

const nextSteps = `server token rotated
The servers accept the old token until they are restarted, and do not start with it any more. Next steps:
  1. On every server, put the new token wherever the old one is: config.yaml, the unit of the service or its env file.
  2. Restart %s, and wait until it is ready. Then restart the other servers, one at a time.
  3. Do the same with the agents that joined with the server token.
  4. Check all servers: verify --all-servers with the new token and --old-token-file.
Keep the old token: snapshots from before cannot be restored without it.`

// Run checks the servers, asks, and rotates the token. The new token is in the
// file before the server is told, or printed as soon as the server may have it.
func (o *Options) Run(ctx context.Context, printer printers.ResourcePrinter) error {
	if err := o.Rotation.Preflight(ctx); err != nil {
		return err
	}
	defer o.Rotation.Close()
	if err := o.rehearse(); err != nil {
		return err
	}
	for _, warning := range o.Rotation.Warnings {
		o.Warnf("%s", warning)
	}
	o.Notef("server to tell: %s; servers checked: %d", o.Rotation.Server(), len(o.Rotation.Servers))
	if o.DryRun == cmdutil.DryRunServer {
		o.Notef("server token not rotated%s", o.DryRun.Suffix())
		return nil
	}
	if !o.Yes {
		if err := o.Confirm(ctx, "rotate the server token?"); err != nil {
			return err
		}
	}
	return o.rotate(ctx, printer)
}

// rehearse prints the result to nowhere before a server is told. It returns an error if
// the template fails, or leaves out the only copy of the new token.
func (o *Options) rehearse() error {
	printer, err := o.Print.ToPrinter() // a new one, since some keep state
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := printer.PrintObj(o.result(supervisor.Rotated, nil), &out); err != nil {
		return err
	}
	if o.printsOnlyCopy() && !bytes.Contains(out.Bytes(), []byte(o.Rotation.New.Secret.Reveal())) {
		return hint.New("the output leaves out the new token", "add .token to it, or add --new-token-output FILE")
	}
	return nil
}

// printsOnlyCopy reports whether the new token is lost if it is not printed.
func (o *Options) printsOnlyCopy() bool {
	return o.OutputFile == "" && o.NewToken == "" && o.NewTokenFile == ""
}

// rotate sends the new token to the server, delivers it to the user, and updates the
// record.
func (o *Options) rotate(ctx context.Context, printer printers.ResourcePrinter) (err error) {
	if o.OutputFile != "" {
		if err := o.save(o.OutputFile); err != nil {
			return err
		}
	}
	outcome, reason := o.Rotation.Rotate(ctx)
	if outcome != supervisor.NotRotated {
		err = o.deliver(ctx, o.result(outcome, reason), printer)
	} else if o.OutputFile != "" {
		err = os.Remove(o.OutputFile)
	}
	if err := o.Rotation.Finish(ctx, outcome); err != nil {
		o.Warnf("%v", err)
	}
	switch outcome {
	case supervisor.Rotated:
		o.Notef(nextSteps, o.Rotation.Server())
		return err
	case supervisor.NotRotated:
		return errors.Join(reason, errors.New("the server token was not rotated"), err)
	}
	return errors.Join(err, reason, hint.New("it is not known whether the server token was rotated",
		"keep both tokens; if no answer came, repeat it through the same server with --new-token-file"))
}

// deliver prints the result. If that fails, it saves the only copy of the new token to
// a file.
func (o *Options) deliver(ctx context.Context, result *v1alpha1.TokenRotation, printer printers.ResourcePrinter) error {
	err := o.Streams.Print(ctx, printer, result)
	if err == nil || !o.printsOnlyCopy() {
		return err
	}
	err = fmt.Errorf("the result could not be written out: %v", err) //nolint:errorlint // a broken pipe is an error here
	name := fmt.Sprintf("k3s-new-server-token-%d", time.Now().Unix())
	if o.save(name) != nil {
		return hint.Wrap(err, "the new token is in server/token of the data directory on %s", o.Rotation.Server())
	}
	return hint.Wrap(err, "the new token was saved to %s", name)
}

// save writes the new token to a new file.
func (o *Options) save(name string) error {
	file, err := cmdutil.CreateOutputFile("new-token-output", name)
	if err != nil {
		return err
	}
	defer file.Discard() //nolint:errcheck // an empty file may stay
	return file.Write([]byte(o.Rotation.New.Reveal() + "\n"))
}

// result returns the object to print. It lacks a token that is in a file.
func (o *Options) result(outcome supervisor.Outcome, reason error) *v1alpha1.TokenRotation {
	result := &v1alpha1.TokenRotation{
		Server:  o.Rotation.Server().String(),
		Outcome: string(outcome),
		CAHash:  o.Rotation.New.CAHash,
	}
	for _, url := range o.Rotation.Servers {
		result.Restart = append(result.Restart, url.String())
	}
	if o.OutputFile == "" {
		result.Token = o.Rotation.New.Reveal()
	}
	if reason != nil {
		result.Reason = reason.Error()
	}
	return result
}

// printText prints the new token alone.
func printText(obj runtime.Object, w io.Writer) error {
	t := obj.(*v1alpha1.TokenRotation).Token
	if t == "" {
		return nil
	}
	_, err := fmt.Fprintln(w, t)
	return err
}
