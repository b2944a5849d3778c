// Package joincommand is the verb join-command: the text to paste on a new machine, for
// a token that exists.
package joincommand

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/machine"
	"github.com/k3s-token/kubectl-k3s-token/pkg/join"
)

// Options are those of join-command.
type Options struct {
	cmdutil.Streams
	machine.Flags

	Format    join.Format
	TokenFile string
}

// NewCommand returns the verb join-command.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Format: join.Install}
	cmd := &cobra.Command{
		Use:   "join-command [TOKEN|-]",
		Short: "Print what to paste on a new machine",
		Long: templates.LongDesc(`
			Print what a new machine needs to join the cluster as an agent with a token that
			exists: a bootstrap token, or the server or agent token. A token in short format
			gets the cluster's CA hash. "create --print-join-command" makes the token too.

			The formats: install (a command that installs K3s and joins), agent (a command for
			an installed K3s), config (a config.yaml), env (the environment file of the
			service), cloud-init (user data of a new machine).

			"-" reads TOKEN from standard input, which keeps it out of the list of processes.
			Without TOKEN and --token-file, K3S_TOKEN is read.`),
		Example: templates.Examples(`
			# Print the line to paste on the new machine
			kubectl k3s-token join-command --token-file node-token --url https://k3s.example.com:6443

			# Write user data for a machine of a cloud
			kubectl k3s-token join-command - --format cloud-init --node-label rack=7 < node-token > user-data`),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.Params.Validate(o.Format); err != nil {
				return err
			}
			if err := o.Complete(cmd.Context(), args); err != nil {
				return err
			}
			cluster, err := clients.Cluster()
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), cluster)
		},
	}
	o.AddFlags(cmd)
	cmd.Flags().Var(cmdutil.NonEmpty(&o.TokenFile), "token-file", "File with the token.")
	cmdutil.AddChoice(cmd, &o.Format, "format", "What to print: "+strings.Join(join.Formats(), ", ")+".", join.Formats()...)
	return cmd
}

// Complete reads the token and the address that the new node dials.
func (o *Options) Complete(ctx context.Context, args []string) (err error) {
	if o.Params.Token, err = o.ReadOneToken(ctx, args, "", o.TokenFile); err != nil {
		return err
	}
	if err := o.Params.Token.Mistyped(); err != nil {
		return fmt.Errorf("malformed bootstrap token: %w", err)
	}
	return o.Flags.Complete()
}

// Run prints the text to paste.
func (o *Options) Run(ctx context.Context, c *cluster.Cluster) error {
	if err := o.Gather(ctx, c, o.Streams, machine.Need{CA: true, URL: true}); err != nil {
		return err
	}
	switch t := o.Params.Token; t.CAHash {
	case "":
		o.Params.Token = t.WithCAHash(o.CA.Hash)
	case o.CA.Hash:
	default:
		o.Warnf("the token's CA hash is not that of this cluster; no node can join this cluster with it")
	}
	result, err := join.Command(o.Format, o.Params)
	if err != nil {
		return err
	}
	return o.Write(ctx, []byte(result+"\n"))
}
