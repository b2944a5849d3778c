// Package delete is the verb delete: it takes bootstrap tokens back.
package delete

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Store is what delete needs of a store of bootstrap tokens.
type Store interface {
	cmdutil.Finder
	Delete(ctx context.Context, t *bootstrap.Token) error
}

// Options are those of delete.
type Options struct {
	cmdutil.Streams
	Output string
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
	cmd := &cobra.Command{
		Use:     "delete (TOKEN... | - | -l SELECTOR | --expired | --all)",
		Aliases: []string{"revoke", "rm"},
		Short:   "Delete bootstrap tokens from the cluster",
		Long: templates.LongDesc(`
			Delete bootstrap tokens. Nodes that have joined stay.

			A TOKEN is an id, a whole token, or secret/NAME; "-" reads them from standard
			input, one a line. If you give the secret part, it must be the stored one.`),
		Example: templates.Examples(`
			# Take a token back
			kubectl k3s-token delete abcdef

			# Delete the tokens in a file, one a line
			kubectl k3s-token delete --ignore-not-found - < tokens.txt

			# Delete every token without a question
			kubectl k3s-token delete --all --yes`),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.Validate(args); err != nil {
				return err
			}
			refs, err := o.ReadRefs(cmd.Context(), args)
			if err != nil {
				return err
			}
			o.Refs = refs
			store, err := clients.Tokens()
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), o.DryRun.Store(store), clients.ClusterName)
		},
		ValidArgsFunction: cmdutil.CompleteTokens(clients),
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.Selector, "selector", "l", "", "Selector (label query) to filter on, supports '=', '==', '!=', 'in', 'notin'.")
	flags.BoolVar(&o.Expired, "expired", false, "Delete the tokens that have expired.")
	flags.BoolVar(&o.All, "all", false, "Delete all bootstrap tokens.")
	flags.BoolVarP(&o.Yes, "yes", "y", false, "Do not ask before --all.")
	flags.BoolVar(&o.IgnoreNotFound, "ignore-not-found", false, `Treat "not found" as a successful delete, as --selector, --expired and --all always do.`)
	flags.StringVarP(&o.Output, "output", "o", "", "Output mode. Use \"-o name\" for shorter output (resource/name).")
	o.DryRun.AddFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("selector", "expired", "all")
	cmdutil.CompleteValues(cmd, "output", "name")
	return cmd
}

// Validate refuses what can be refused without a cluster.
func (o *Options) Validate(args []string) error {
	flagged := o.Selector != "" || o.Expired || o.All
	switch {
	case len(args) == 0 && !flagged:
		return errors.New("name the tokens to delete, or use --selector, --expired or --all")
	case len(args) > 0 && flagged:
		return errors.New("choose one of TOKEN..., --selector, --expired and --all")
	case o.Output != "" && o.Output != "name" && o.Output != "text":
		return fmt.Errorf("unexpected -o output mode: %v. We only support '-o name'", o.Output)
	}
	return o.DryRun.Validate()
}

// Run deletes the tokens. clusterName names the cluster for the question before
// --all.
func (o *Options) Run(ctx context.Context, store Store, clusterName func() string) error {
	// Of tokens that nobody has named K3s may have removed one a moment ago.
	failures := &cmdutil.Failures{Done: "deleted", IgnoreNotFound: o.IgnoreNotFound || len(o.Refs) == 0}
	tokens, err := cmdutil.Find(ctx, store, o.Refs, o.Selector, failures)
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
	errs := cmdutil.ForEach(ctx, len(tokens), func(i int) error {
		if o.DryRun == cmdutil.DryRunClient {
			return nil
		}
		return store.Delete(ctx, tokens[i])
	})
	deleted := &v1alpha1.BootstrapTokenList{}
	for i, err := range errs {
		if t := v1alpha1.NewBootstrapToken(tokens[i], time.Now()); failures.Add(t.ID, err) {
			deleted.Items = append(deleted.Items, t)
		}
	}
	return errors.Join(failures.Err(), o.Print(ctx, cmdutil.Each(o.print), deleted))
}

func (o *Options) print(obj runtime.Object, w io.Writer) error {
	t := obj.(*v1alpha1.BootstrapToken)
	line := fmt.Sprintf("bootstrap token %q deleted%s\n", t.ID, o.DryRun.Suffix())
	if o.Output == "name" {
		line = "secret/" + t.Name + "\n"
	}
	_, err := io.WriteString(w, line)
	return err
}
