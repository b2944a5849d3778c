// Package verify is the verb verify: a token against servers, as a joining node
// finds it.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cluster"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil/target"
	"github.com/k3s-token/kubectl-k3s-token/pkg/supervisor"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Servers is what verify needs of target.Servers.
type Servers interface {
	URLs(ctx context.Context) ([]supervisor.URL, error)
	Options(ctx context.Context, t token.Token) supervisor.Options
	ContextCA(ctx context.Context) (cluster.CA, error)
}

// Options are those of verify.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags
	target.Flags

	OldTokenFile string

	// Try is supervisor.Verify.
	Try func(context.Context, supervisor.URL, token.Token, supervisor.Options) (supervisor.Report, error)

	token    token.Token
	oldToken *token.Token
}

// NewCommand returns the verb verify.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Try: supervisor.Verify}
	o.Print = cmdutil.NewPrintFlags().WithText(printText)
	cmd := &cobra.Command{
		Use:   "verify (TOKEN | - | --token-file FILE) [--server URL]...",
		Short: "Check whether a node can join with a token",
		Long: templates.LongDesc(`
			Try a token on K3s servers as a joining node does, without joining. The credentials
			go to no server that has not proved to be the token's.

			After a rotation of the server token, --old-token-file shows which servers were
			not restarted. Once all accept the new token alone, the record of the rotation is
			removed.

			--server and --token are those of "k3s token rotate", not kubectl's.`),
		Example: templates.Examples(`
			# Check whether a node can join with the token in a file
			kubectl k3s-token verify --token-file node-token

			# Check whether every server of the cluster accepts the token
			kubectl k3s-token verify --all-servers --token-file node-token

			# Print what the token is good for, for a script
			kubectl k3s-token verify --token-file node-token -o jsonpath='{.joinsAgents} {.joinsServers}'`),
		Args: cmdutil.AtMostOneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if err := cmdutil.RefuseEmpty(cmd, "token", "token-file", "old-token-file"); err != nil {
				return err
			}
			if err := o.Complete(cmd.Context(), args); err != nil {
				return err
			}
			servers, err := o.Servers(clients)
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), servers, newContextCluster(servers), printer)
		},
	}
	o.AddFlags(cmd, "the token to verify")
	cmd.Flags().StringVar(&o.OldTokenFile, "old-token-file", "", "File with the server token from before a rotation, to see which servers still accept it.")
	o.Print.AddFlags(cmd)
	return cmd
}

// Complete reads the tokens.
func (o *Options) Complete(ctx context.Context, args []string) (err error) {
	if o.token, err = o.Flags.ReadToken(ctx, o.Streams, args); err != nil || o.OldTokenFile == "" {
		return err
	}
	text, err := cmdutil.ReadTokenFile(ctx, o.OldTokenFile)
	if err != nil {
		return fmt.Errorf("--old-token-file: %w", err)
	}
	old, err := token.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("--old-token-file: malformed token: %w", err)
	case old.Type() == token.Bootstrap:
		return errors.New("--old-token-file: a bootstrap token, but only the server token is rotated")
	case old.Secret == o.token.Secret:
		return cmdutil.WithHint(errors.New("--old-token-file holds the token to verify"), "give the token from before the rotation")
	case old.CAHash == "":
		old.CAHash = o.token.CAHash // one cluster has one CA
	}
	o.oldToken = &old
	return nil
}

// Run tries the token on each server and prints what they answer.
func (o *Options) Run(ctx context.Context, servers Servers, c contextCluster, printer printers.ResourcePrinter) error {
	urls, err := servers.URLs(ctx)
	if err != nil {
		return err
	}
	if reason, ok := token.LooksLikeBootstrap(o.token); ok {
		o.Warnf("the token is taken as a password; as a bootstrap token it is malformed: %s", reason)
	}
	list := &v1alpha1.VerificationList{Items: make([]v1alpha1.Verification, len(urls))}
	options := servers.Options(ctx, o.token)
	cmdutil.ForEach(ctx, len(urls), func(i int) error {
		list.Items[i] = o.verify(ctx, urls[i], options, c)
		return nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(urls) == 1 && !o.AllServers {
		return errors.Join(o.Streams.Print(ctx, printer, &list.Items[0]), failure(&list.Items[0]))
	}
	err = o.Streams.Print(ctx, printer, list)
	if o.AllServers {
		o.settleRotation(ctx, list.Items, c)
	}
	bad := len(slices.DeleteFunc(slices.Clone(list.Items), isGood))
	if bad > 0 {
		err = errors.Join(err, fmt.Errorf("the token is not good on %d of %d servers", bad, len(urls)))
	}
	return err
}

// isGood tells whether the server accepts the token, and none from before.
func isGood(v v1alpha1.Verification) bool {
	return v.Verdict == string(supervisor.Accepted) && v.OldToken != string(supervisor.Accepted)
}

// failure returns why the token is not good on a server.
func failure(v *v1alpha1.Verification) error {
	switch {
	case isGood(*v):
		return nil
	case v.Verdict == string(supervisor.Accepted):
		return fmt.Errorf("%s still accepts the old token", v.Server)
	case v.Verdict == notSent:
		return fmt.Errorf("the token was not sent to %s: step %d failed", v.Server, len(v.Steps))
	case v.Verdict == unknown:
		return fmt.Errorf("whether %s accepts the token is not known", v.Server)
	}
	return fmt.Errorf("%s does not accept the token", v.Server)
}
