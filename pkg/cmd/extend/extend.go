// Package extend is the verb extend: it gives bootstrap tokens another expiry.
package extend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Store is what extend needs of a store of bootstrap tokens.
type Store interface {
	cmdutil.Finder
	Extend(ctx context.Context, t *bootstrap.Token, expires time.Time) (*bootstrap.Token, error)
}

// Options are those of extend.
type Options struct {
	cmdutil.Streams
	Print  *cmdutil.PrintFlags
	Expiry cmdutil.Expiry
	DryRun cmdutil.DryRun

	Refs     []bootstrap.Ref
	Selector string
}

// NewCommand returns the verb extend.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams}
	o.Print = cmdutil.NewPrintFlags().WithText(o.printText)
	cmd := &cobra.Command{
		Use:                   "extend (TOKEN... | - | -l SELECTOR) (--ttl DURATION | --expires-at TIME)",
		Aliases:               []string{"renew"},
		DisableFlagsInUseLine: true,
		Short:                 "Change the expiry of bootstrap tokens",
		Long: templates.LongDesc(`
			Change when bootstrap tokens expire, to later or earlier. --ttl counts from now;
			--ttl 0 makes a token that never expires.

			A TOKEN is an id, ID.SECRET, a whole K10 token, the name of a token's Secret,
			or secret/NAME; "-" reads them from standard input, one a line.`),
		Example: templates.Examples(`
			# Let a token live for 24 hours from now
			kubectl k3s-token extend abcdef --ttl 24h

			# Let a token expire at a given time
			kubectl k3s-token extend abcdef --expires-at 2030-01-31T18:00:00Z`),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if err := o.Validate(args); err != nil {
				return err
			}
			if o.Refs, err = o.ReadRefs(cmd.Context(), args); err != nil {
				return err
			}
			store, err := clients.Tokens()
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), o.DryRun.Store(store), printer)
		},
		ValidArgsFunction: cmdutil.CompleteTokens(clients),
	}
	cmd.Flags().StringVarP(&o.Selector, "selector", "l", "", "Selector (label query) to filter on, supports '=', '==', '!=', 'in', 'notin'.")
	o.Expiry.AddFlags(cmd, 0)
	o.DryRun.AddFlags(cmd)
	o.Print.AddFlags(cmd)
	return cmd
}

// Validate refuses what can be refused without a cluster.
func (o *Options) Validate(args []string) error {
	if (len(args) > 0) == (o.Selector != "") {
		return errors.New("name the tokens to extend, or use --selector")
	}
	return o.DryRun.Validate()
}

// Run extends the tokens. All of them get the same end.
func (o *Options) Run(ctx context.Context, store Store, printer printers.ResourcePrinter) error {
	expires, err := o.Expiry.At(time.Now())
	if err != nil {
		return err
	}
	failures := &cmdutil.Failures{Done: "extended"}
	tokens, err := cmdutil.Find(ctx, store, o.Refs, o.Selector, failures)
	if err != nil {
		return err
	}
	if len(tokens) == 0 && len(o.Refs) == 0 {
		o.Notef("No bootstrap tokens found.")
		return nil
	}
	extended := make([]*bootstrap.Token, len(tokens))
	errs := cmdutil.ForEach(ctx, len(tokens), func(i int) (err error) {
		extended[i], err = o.extend(ctx, store, tokens[i], expires)
		return err
	})
	list := &v1alpha1.BootstrapTokenList{}
	var updated time.Time
	for i, err := range errs {
		if failures.Add(tokens[i].ID, err) {
			list.Items = append(list.Items, v1alpha1.NewBootstrapToken(extended[i], time.Now()))
			updated = extended[i].Updated
		}
	}
	if len(list.Items) == 0 {
		return failures.Err()
	}
	o.warn(list, expires, updated)
	return errors.Join(failures.Err(), o.Streams.Print(ctx, printer, o.result(list)))
}

func (o *Options) extend(ctx context.Context, store Store, t *bootstrap.Token, expires time.Time) (*bootstrap.Token, error) {
	if o.DryRun == cmdutil.DryRunClient {
		extended := *t
		extended.Expires = expires
		return &extended, nil
	}
	return store.Extend(ctx, t, expires)
}

func (o *Options) warn(list *v1alpha1.BootstrapTokenList, expires, updated time.Time) {
	for i := range list.Items {
		if t := &list.Items[i]; t.Problem != "" {
			o.Warnf("no node can join with token %q: %s", t.ID, t.Problem)
		}
	}
	o.WarnIfForever(expires)
	o.WarnAboutClock(updated, expires)
}

// result is the token itself if one was named, as kubectl has it.
func (o *Options) result(list *v1alpha1.BootstrapTokenList) runtime.Object {
	if len(o.Refs) == 1 {
		return &list.Items[0]
	}
	return list
}

func (o *Options) printText(obj runtime.Object, w io.Writer) error {
	for _, t := range cmdutil.Tokens(obj) {
		end := "never expires"
		if t.Expires != nil {
			end = "expires at " + t.Expires.UTC().Format(time.RFC3339)
		}
		if _, err := fmt.Fprintf(w, "bootstrap token %q %s%s\n", t.ID, end, o.DryRun.Suffix()); err != nil {
			return err
		}
	}
	return nil
}
