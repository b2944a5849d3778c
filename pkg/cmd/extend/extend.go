// Package extend is the verb extend: it gives bootstrap tokens another expiry.
package extend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Store has the methods of a bootstrap.Store that extend uses.
type Store interface {
	cmdutil.Finder
	Extend(ctx context.Context, t *bootstrap.Token, expires time.Time) error
}

// Options are those of extend.
type Options struct {
	cmdutil.Streams
	Print  *cmdutil.PrintFlags
	DryRun cmdutil.DryRun

	Refs     []bootstrap.Ref
	Selector string
	Expires  time.Time // the zero time means never
}

// NewCommand returns the verb extend.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams}
	o.Print = cmdutil.NewPrintFlags(cmdutil.Text(o.text))
	cmd := &cobra.Command{
		Use:     "extend (TOKEN... | - | -l SELECTOR) (--ttl DURATION | --expires-at TIME)",
		Aliases: []string{"renew"},
		Short:   "Change the expiry of bootstrap tokens",
		Long: templates.LongDesc(`
			Change when bootstrap tokens expire, to later or earlier. A TOKEN is an id, a whole
			token, or secret/NAME; "-" reads them from standard input, one a line.`),
		Example: templates.Examples(`
			# Let a token live for 24 hours from now
			kubectl k3s-token extend abcdef --ttl 24h`),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			if o.Refs, err = o.ReadRefs(cmd.Context(), args, o.Selector != ""); err != nil {
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
	cmdutil.AddSelector(cmd, &o.Selector)
	cmdutil.AddExpiryFlags(cmd, &o.Expires, "")
	o.DryRun.AddFlags(cmd)
	o.Print.AddFlags(cmd)
	return cmd
}

// Run extends the tokens. All of them get the same end.
func (o *Options) Run(ctx context.Context, store Store, printer printers.ResourcePrinter) error {
	batch := &cmdutil.Batch{Done: "extended"}
	tokens, err := batch.Find(ctx, store, o.Refs, o.Selector)
	if err != nil {
		return err
	}
	if len(tokens) == 0 && len(o.Refs) == 0 {
		o.Notef("No bootstrap tokens found.")
		return nil
	}
	extended := batch.Change(ctx, tokens, func(t *bootstrap.Token) error {
		if o.DryRun == cmdutil.DryRunClient {
			t.Expires, t.Updated = o.Expires, time.Time{}
			return nil
		}
		return store.Extend(ctx, t, o.Expires)
	})
	if len(extended) == 0 {
		return batch.Err()
	}
	list := v1alpha1.NewBootstrapTokenList(extended, time.Now())
	o.WarnAboutExpiry(extended[0].Updated, o.Expires)
	var result runtime.Object = list
	if len(o.Refs) == 1 {
		result = &list.Items[0] // as kubectl has it
	}
	return errors.Join(batch.Err(), o.Streams.Print(ctx, printer, result))
}

func (o *Options) text(t *v1alpha1.BootstrapToken) (string, error) {
	end := "never expires"
	if t.Expires != nil {
		end = "expires at " + t.Expires.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("bootstrap token %q %s%s\n", t.ID, end, o.DryRun.Suffix()), nil
}
