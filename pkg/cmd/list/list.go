// Package list is the verb list: the bootstrap tokens of the cluster.
package list

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Lister is what list needs of a store of bootstrap tokens.
type Lister interface {
	List(ctx context.Context, selector string) (bootstrap.List, error)
	WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

// Options are those of list.
type Options struct {
	cmdutil.Streams
	Print *cmdutil.PrintFlags

	Selector string
	Expired  bool
	Watch    bool
}

// NewCommand returns the verb list.
func NewCommand(clients cmdutil.Clients, streams cmdutil.Streams) *cobra.Command {
	o := &Options{Streams: streams, Print: cmdutil.NewPrintFlags()}
	cmd := &cobra.Command{
		Use:                   "list",
		Aliases:               []string{"ls"},
		DisableFlagsInUseLine: true,
		Short:                 "List bootstrap tokens, soonest expiry first",
		Long: templates.LongDesc(`
			List the bootstrap tokens of the cluster, soonest expiry first, without their
			secrets.

			A token is Unusable if no node can join with it, and Invalid if its Secret is
			malformed. The reason is shown with it.`),
		Example: templates.Examples(`
			# List the tokens, soonest expiry first
			kubectl k3s-token list

			# Add usages, extra groups and age
			kubectl k3s-token list -o wide

			# List the tokens with a label, and go on as they change
			kubectl k3s-token list -l rack=7 --watch

			# Print the ids alone, for a script
			kubectl k3s-token list -o jsonpath='{range .items[*]}{.id}{"\n"}{end}'`),
		Args: cmdutil.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			printer, err := o.Print.ToPrinter()
			if err != nil {
				return err
			}
			store, err := clients.Tokens()
			if err != nil {
				return err
			}
			return o.Run(cmd.Context(), store, printer)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o.Print.AddFlags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&o.Selector, "selector", "l", "", "Selector (label query) to filter on, supports '=', '==', '!=', 'in', 'notin'.")
	flags.BoolVar(&o.Expired, "expired", false, "List only tokens that have expired.")
	flags.BoolVarP(&o.Watch, "watch", "w", false, "After listing the tokens, watch for changes.")
	flags.BoolVar(&o.Print.Table.NoHeaders, "no-headers", false, "When using the default output format, don't print headers.")
	flags.BoolVar(&o.Print.Table.ShowLabels, "show-labels", false, "When printing, show all labels as the last column.")
	return cmd
}

// Run lists the tokens of the store.
func (o *Options) Run(ctx context.Context, store Lister, printer printers.ResourcePrinter) error {
	list, err := store.List(ctx, o.Selector)
	if err != nil {
		return err
	}
	tokens := o.shown(list.Items, time.Now())
	if len(tokens.Items) == 0 && o.Print.IsText() {
		o.Notef("No bootstrap tokens found.")
	}
	for _, obj := range o.pieces(tokens) {
		if err := o.Streams.Print(ctx, printer, obj); err != nil {
			return err
		}
	}
	if !o.Watch {
		return nil
	}
	return o.watch(ctx, store, list.ResourceVersion, printer)
}

// shown returns the tokens to print, in their order.
func (o *Options) shown(all []*bootstrap.Token, now time.Time) *v1alpha1.BootstrapTokenList {
	tokens := &v1alpha1.BootstrapTokenList{Items: []v1alpha1.BootstrapToken{}}
	for _, t := range all {
		if t := v1alpha1.NewBootstrapToken(t, now); !o.Expired || t.Status == string(bootstrap.Expired) {
			tokens.Items = append(tokens.Items, t)
		}
	}
	slices.SortFunc(tokens.Items, func(a, b v1alpha1.BootstrapToken) int {
		return cmp.Or(compareExpiry(a.Expires, b.Expires), cmp.Compare(a.ID, b.ID))
	})
	return tokens
}

// pieces returns what is printed at once: the list or, before changes that follow
// in a format such as JSON, each token.
func (o *Options) pieces(list *v1alpha1.BootstrapTokenList) []runtime.Object {
	if !o.Watch || o.Print.IsText() {
		return []runtime.Object{list}
	}
	var pieces []runtime.Object
	for i := range list.Items {
		pieces = append(pieces, &list.Items[i])
	}
	return pieces
}

// compareExpiry puts what ends first first, and what never ends last.
func compareExpiry(a, b *metav1.Time) int {
	switch {
	case a != nil && b != nil:
		return a.Compare(b.Time)
	case a == b:
		return 0
	case a == nil:
		return 1
	}
	return -1
}

// watch prints tokens as they come, change and go, until ctx ends.
func (o *Options) watch(ctx context.Context, store Lister, since string, printer printers.ResourcePrinter) error {
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, since, selecting{store, o.Selector})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		secret, ok := event.Object.(*corev1.Secret)
		if !ok {
			continue // a bookmark
		}
		token := v1alpha1.NewBootstrapToken(bootstrap.FromSecret(secret), time.Now())
		if o.Expired && token.Status != string(bootstrap.Expired) {
			continue
		}
		if event.Type == watch.Deleted {
			token.Status, token.Problem = "Deleted", ""
		}
		if err := o.Streams.Print(ctx, printer, &token); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// selecting adds the label selector to what the retry watcher asks for.
type selecting struct {
	Lister
	selector string
}

// WatchWithContext implements cache.WatcherWithContext.
func (s selecting) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.LabelSelector = s.selector
	return s.Lister.WatchWithContext(ctx, options)
}
