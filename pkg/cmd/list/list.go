// Package list is the verb list: the bootstrap tokens of the cluster.
package list

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/k3s-token/kubectl-k3s-token/pkg/api/v1alpha1"
	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

// Lister has the methods of a bootstrap.Store that list uses.
type Lister interface {
	List(ctx context.Context, selector string) (tokens []*bootstrap.Token, resourceVersion string, err error)
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
	o := &Options{Streams: streams, Print: cmdutil.NewPrintFlags(nil)}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List bootstrap tokens, soonest expiry first",
		Long: templates.LongDesc(`
			List the bootstrap tokens of the cluster, soonest expiry first. Unusable ones lack
			a usage that joining needs; Invalid ones have a malformed Secret.`),
		Example: templates.Examples(`
			# List the tokens, soonest expiry first
			kubectl k3s-token list

			# List the tokens with a label, and go on as they change
			kubectl k3s-token list -l rack=7 --watch

			# Print the ids alone, for a script
			kubectl k3s-token list -o jsonpath='{range .items[*]}{.id}{"\n"}{end}'`),
		Args: cobra.ExactArgs(0),
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
	}
	o.Print.AddFlags(cmd)
	flags := cmd.Flags()
	cmdutil.AddSelector(cmd, &o.Selector)
	flags.BoolVar(&o.Expired, "expired", false, "List only tokens that have expired.")
	flags.BoolVarP(&o.Watch, "watch", "w", false, "After listing the tokens, watch for changes.")
	flags.BoolVar(&o.Print.Table.NoHeaders, "no-headers", false, "When using the default output format, don't print headers.")
	flags.BoolVar(&o.Print.Table.ShowLabels, "show-labels", false, "When printing, show all labels as the last column.")
	return cmd
}

// Run lists the tokens of the store.
func (o *Options) Run(ctx context.Context, store Lister, printer printers.ResourcePrinter) error {
	all, resourceVersion, err := store.List(ctx, o.Selector)
	if err != nil {
		return err
	}
	tokens := o.shown(all, time.Now())
	if len(tokens.Items) == 0 && o.Print.IsText() {
		o.Notef("No bootstrap tokens found.")
	}
	show := func(obj runtime.Object) error { return o.Streams.Print(ctx, printer, obj) }
	if !o.Watch {
		return show(tokens)
	}
	if o.Print.IsText() {
		err = show(tokens)
	} else { // one by one, as the changes that follow
		err = meta.EachListItem(tokens, show)
	}
	if err != nil {
		return err
	}
	return o.watch(ctx, store, resourceVersion, show)
}

// shown returns the tokens to print, in their order.
func (o *Options) shown(all []*bootstrap.Token, now time.Time) *v1alpha1.BootstrapTokenList {
	tokens := v1alpha1.NewBootstrapTokenList(all, now)
	if o.Expired {
		tokens.Items = slices.DeleteFunc(tokens.Items, isNotExpired)
	}
	slices.SortFunc(tokens.Items, func(a, b v1alpha1.BootstrapToken) int {
		return cmp.Or(cmp.Compare(end(a), end(b)), cmp.Compare(a.ID, b.ID))
	})
	return tokens
}

func isNotExpired(t v1alpha1.BootstrapToken) bool { return t.Status != string(bootstrap.Expired) }

// end returns the end of a token, in seconds since 1970.
func end(t v1alpha1.BootstrapToken) int64 {
	if t.Expires == nil {
		return math.MaxInt64
	}
	return t.Expires.Unix()
}

// watch prints tokens as they come, change and go, until ctx ends.
func (o *Options) watch(ctx context.Context, store Lister, since string, show func(runtime.Object) error) error {
	selecting := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.LabelSelector = o.Selector
		return store.WatchWithContext(ctx, options)
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, since, &cache.ListWatch{WatchFuncWithContext: selecting})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		secret, ok := event.Object.(*corev1.Secret)
		if !ok {
			return apierrors.FromObject(event.Object)
		}
		token := v1alpha1.NewBootstrapToken(bootstrap.FromSecret(secret), time.Now())
		if o.Expired && isNotExpired(token) {
			continue
		}
		if event.Type == watch.Deleted {
			token.Status, token.Problem = "Deleted", ""
		}
		if err := show(&token); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
