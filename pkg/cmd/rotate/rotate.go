// Package rotate is the verb rotate: a new server token.
package rotate

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/rotation"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

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
	return &Options{Streams: streams, Print: cmdutil.NewPrintFlags().WithText(printText)}
}

// NewCommand returns the verb rotate.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := NewOptions(streams)
	cmd := &cobra.Command{
		Use:                   "rotate [--token-file FILE] [--server URL]...",
		DisableFlagsInUseLine: true,
		Short:                 "Replace the server token",
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
		ValidArgsFunction: cobra.NoFileCompletions,
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
func (o *Options) Complete(ctx context.Context) error {
	current, err := o.ReadOneToken(ctx, nil, o.Token, o.TokenFile)
	if errors.Is(err, cmdutil.ErrNoToken) && o.CanAsk() {
		if o.Token, err = o.AskSecret(ctx, "Current server token: "); err == nil {
			current, err = o.ReadOneToken(ctx, nil, o.Token, o.TokenFile)
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
	o.Rotation.Current = current
	o.Rotation.New, err = rotation.NewToken(next, current, o.AllowUnsafe)
	return err
}

// Target finds the servers and the cluster of the rotation.
func (o *Options) Target(ctx context.Context, clients cmdutil.Clients) error {
	servers, err := o.Servers(clients)
	if err != nil {
		return err
	}
	o.Rotation.Cluster = servers.Cluster
	o.Rotation.Open = func(ctx context.Context, url supervisor.URL, t token.Token) (rotation.Session, error) {
		return supervisor.Connect(ctx, url, servers.Options(url, t))
	}
	o.Rotation.Servers, err = servers.URLs(ctx)
	return err
}
