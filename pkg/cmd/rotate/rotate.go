// Package rotate is the verb rotate: a new server token.
package rotate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const nextSteps = `server token rotated
The servers accept the old token until they are restarted, and do not start with it any more. Next steps:
  1. On every server, put the new token wherever the old one is: config.yaml, the unit of the service or its env file.
  2. Restart %s, and wait until it is ready. Then restart the other servers, one at a time.
  3. Do the same with the agents that joined with the server token.
  4. Check all servers: verify --all-servers with the new token and --old-token-file.
Keep the old token: snapshots from before cannot be restored without it.`

// Options are those of rotate.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags
	target.Flags
	DryRun cmdutil.DryRun

	NewToken     string
	NewTokenFile string
	OutputFile   string
	AllowUnsafe  bool
	Yes          bool

	// Rotation has the tokens and the servers. Complete and Target set all but Force.
	Rotation rotation.Rotation
}

// NewOptions returns the options without any flags.
func NewOptions(streams cmdutil.Streams) *Options {
	return &Options{Streams: streams, Print: cmdutil.NewPrintFlags(cmdutil.Text(text))}
}

// NewCommand returns the verb rotate.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := NewOptions(streams)
	cmd := &cobra.Command{
		Use:   "rotate [--token-file FILE] [--server URL]...",
		Short: "Replace the server token",
		Long: templates.LongDesc(`
			Replace the server token. Servers join with it, and agents if there is no agent
			token. All servers accept the old one until they are restarted. The next steps are
			shown at the end.

			Without --token-file, --token or K3S_TOKEN the current token is asked for. It is
			in server/token of a server's data directory. Keep it; older snapshots need it.

			The first server is told the new token, after all were asked whether they accept
			the current one. A record, ConfigMap k3s-token-rotation in kube-system, stops a
			second rotation until "verify --all-servers --old-token-file" removes it.`),
		Example: templates.Examples(`
			# Check whether the servers are ready, and change nothing
			kubectl k3s-token rotate --token-file node-token --all-servers --dry-run=server

			# Rotate the server token; without --yes it asks
			kubectl k3s-token rotate --token-file node-token --new-token-output new-token --all-servers --yes

			# When all are restarted: check that every server accepts the new token alone
			kubectl k3s-token verify --all-servers --token-file new-token --old-token-file node-token`),
		Args: cobra.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if err := o.Complete(ctx); err != nil {
				return err
			}
			if o.DryRun == cmdutil.DryRunClient {
				o.Notef("the tokens are well-formed; no server was asked%s", o.DryRun.Suffix())
				return nil
			}
			if err := o.Target(ctx, clients); err != nil {
				return err
			}
			return o.Run(ctx, printer)
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *Options) addFlags(cmd *cobra.Command) {
	o.AddFlags(cmd, "the current server token")
	flags := cmd.Flags()
	flags.Var(cmdutil.NonEmpty(&o.NewToken), "new-token", `The new server token, a password, or "-" to read standard input. (default a generated one)`)
	flags.Var(cmdutil.NonEmpty(&o.NewTokenFile), "new-token-file", "File with the new server token.")
	flags.Var(cmdutil.NonEmpty(&o.OutputFile), "new-token-output", "Write the new token to this new file before a server is told, instead of printing it afterwards. Only its owner can read it.")
	flags.BoolVar(&o.AllowUnsafe, "allow-unsafe-token", false, "Take a new token that is short, or has characters that break env files, YAML or systemd units.")
	flags.BoolVar(&o.Rotation.Force, "force", false, "Rotate despite an unfinished rotation, without a record, or through a possible load balancer.")
	flags.BoolVarP(&o.Yes, "yes", "y", false, "Do not ask for confirmation.")
	o.DryRun.AddFlags(cmd)
	flags.Lookup("dry-run").Usage = `Must be "none", "server", or "client". If client strategy, only check the tokens. If server strategy, ask the servers too, without changing anything.`
	o.Print.AddFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("new-token", "new-token-file")
}

// Complete reads the two tokens. It asks for the current one on a terminal.
func (o *Options) Complete(ctx context.Context) (err error) {
	r := &o.Rotation
	r.Current, err = o.ReadOneToken(ctx, nil, o.Token, o.TokenFile)
	if errors.Is(err, cmdutil.ErrNoToken) && o.CanAsk() {
		if o.Token, err = o.AskSecret(ctx, "Current server token: "); err == nil {
			r.Current, err = o.ReadOneToken(ctx, nil, o.Token, o.TokenFile)
		}
	}
	if err != nil {
		return fmt.Errorf("current token: %w", err)
	}
	var next string
	switch {
	case o.NewToken != "":
		next, err = o.ReadToken(ctx, o.NewToken)
	case o.NewTokenFile != "":
		next, err = cmdutil.ReadTokenFile(ctx, o.NewTokenFile)
	}
	if err != nil {
		return fmt.Errorf("new token: %w", err)
	}
	r.New, err = rotation.NewToken(next, r.Current, o.AllowUnsafe)
	return err
}

// Target finds the servers and the cluster of the rotation.
func (o *Options) Target(ctx context.Context, clients cmdutil.Clients) error {
	servers, err := o.Servers(clients)
	if err != nil {
		return err
	}
	o.Rotation.Cluster, o.Rotation.Warnf = servers.Cluster, o.Warnf
	o.Rotation.Open = func(ctx context.Context, url supervisor.URL, t token.Token) (rotation.Session, error) {
		return supervisor.Connect(ctx, url, t, servers.Options(url))
	}
	o.Rotation.Servers, err = servers.URLs(ctx)
	return err
}

// Run checks the servers, asks, and rotates the token. The new token is in the
// file before the server is told, or printed as soon as the server may have it.
func (o *Options) Run(ctx context.Context, printer printers.ResourcePrinter) error {
	if err := o.Rotation.Preflight(ctx); err != nil {
		return err
	}
	shown, err := o.Print.Rehearse(o.result(supervisor.Rotated, nil), o.Rotation.New.Secret)
	switch {
	case err != nil:
		return err
	case o.printsOnlyCopy() && !shown:
		return hint.New("the output leaves out the new token", "add .token to it, or add --new-token-output FILE")
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
	defer file.Discard()
	_, err = file.Write([]byte(o.Rotation.New.Reveal() + "\n"))
	return err
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

// text is the new token alone. There is none if it is in a file.
func text(r *v1alpha1.TokenRotation) (string, error) {
	if r.Token == "" {
		return "", nil
	}
	return r.Token + "\n", nil
}
