// Package delete is the verb delete: it deletes bootstrap tokens from a cluster.
package delete

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Store has the methods of a bootstrap.Store that delete uses.
type Store interface {
	cmdutil.Finder
	Delete(ctx context.Context, t *bootstrap.Token) error
}

// Options are those of delete.
type Options struct {
	cmdutil.Streams
	Print  *cmdutil.PrintFlags
	DryRun cmdutil.DryRun

	Refs           []bootstrap.Ref
	Selector       string
	Expired        bool
	All            bool
	Yes            bool
	IgnoreNotFound bool
}

// NewCommand returns the verb delete.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams}
	o.Print = cmdutil.NewPrintFlags(cmdutil.Text(o.text))
	cmd := &cobra.Command{
		Use:     "delete (TOKEN... | - | -l SELECTOR | --expired | --all)",
		Aliases: []string{"revoke", "rm"},
		Short:   "Delete bootstrap tokens from the cluster",
		Long: templates.LongDesc(`
			Delete bootstrap tokens. Nodes that have joined stay.

			A TOKEN is an id, a whole token, or secret/NAME; "-" reads them from standard
			input, one a line. If you give the secret part, it must be the stored one.`),
		Example: templates.Examples(`
			# Revoke a token
			kubectl k3s-token delete abcdef

			# Delete the tokens in a file, one a line
			kubectl k3s-token delete --ignore-not-found - < tokens.txt

			# Delete every token without a question
			kubectl k3s-token delete --all --yes`),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			selected := o.Selector != "" || o.Expired || o.All
			if o.Refs, err = o.ReadRefs(cmd.Context(), args, selected); err != nil {
				return err
			}
			store, err := clients.Tokens()
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), o.DryRun.Store(store), printer, clients.ClusterName)
		},
		ValidArgsFunction: cmdutil.CompleteTokens(clients),
	}
	flags := cmd.Flags()
	cmdutil.AddSelector(cmd, &o.Selector)
	flags.BoolVar(&o.Expired, "expired", false, "Delete the tokens that have expired.")
	flags.BoolVar(&o.All, "all", false, "Delete all bootstrap tokens.")
	flags.BoolVarP(&o.Yes, "yes", "y", false, "Do not ask before --all.")
	flags.BoolVar(&o.IgnoreNotFound, "ignore-not-found", false, `Treat "not found" as a successful delete, as --selector, --expired and --all always do.`)
	o.DryRun.AddFlags(cmd)
	o.Print.AddFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("selector", "expired", "all")
	return cmd
}

// Run deletes the tokens. clusterName names the cluster for the question before
// --all.
func (o *Options) Run(ctx context.Context, store Store, printer printers.ResourcePrinter, clusterName func() string) error {
	// K3s removes expired tokens by itself, which is a failure only for a TOKEN.
	batch := &cmdutil.Batch{Done: "deleted", IgnoreNotFound: o.IgnoreNotFound || len(o.Refs) == 0}
	tokens, err := batch.Find(ctx, store, o.Refs, o.Selector)
	if err != nil {
		return err
	}
	if o.Expired {
		tokens = slices.DeleteFunc(tokens, func(t *bootstrap.Token) bool {
			status, _ := t.Status(time.Now())
			return status != bootstrap.Expired
		})
	}
	if len(tokens) == 0 && len(o.Refs) == 0 {
		o.Notef("No bootstrap tokens found.")
		return nil
	}
	if o.All && !o.Yes && o.DryRun == cmdutil.DryRunNone {
		question := fmt.Sprintf("delete all %s of %s?", cmdutil.CountTokens(len(tokens)), clusterName())
		if err := o.Confirm(ctx, question); err != nil {
			return err
		}
	}
	deleted := batch.Change(ctx, tokens, func(t *bootstrap.Token) error {
		if o.DryRun == cmdutil.DryRunClient {
			return nil
		}
		return store.Delete(ctx, t)
	})
	return errors.Join(batch.Err(), o.Streams.Print(ctx, printer, v1alpha1.NewBootstrapTokenList(deleted, time.Now())))
}

func (o *Options) text(t *v1alpha1.BootstrapToken) (string, error) {
	return fmt.Sprintf("bootstrap token %q deleted%s\n", t.ID, o.DryRun.Suffix()), nil
}
