package cmdutil

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/xhit/go-str2duration/v2"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// DryRun is the value of --dry-run: none, client or server.
type DryRun string

// The values of --dry-run.
const (
	DryRunNone   DryRun = "none"
	DryRunClient DryRun = "client"
	DryRunServer DryRun = "server"
)

// AddFlags adds --dry-run with kubectl's words.
func (d *DryRun) AddFlags(cmd *cobra.Command) {
	*d = DryRunNone
	AddChoice(cmd, d, "dry-run",
		`Must be "none", "server", or "client". If client strategy, only print the object that would be sent, without sending it. If server strategy, submit server-side request without persisting the resource.`,
		string(DryRunNone), string(DryRunServer), string(DryRunClient))
}

// Suffix returns the end of kubectl's messages in a dry run.
func (d DryRun) Suffix() string {
	return map[DryRun]string{DryRunClient: " (dry run)", DryRunServer: " (server dry run)"}[d]
}

// Store returns the store for the value. In a server dry run it changes nothing.
func (d DryRun) Store(store *bootstrap.Store) *bootstrap.Store {
	if d == DryRunServer {
		return store.WithDryRun()
	}
	return store
}

// RefuseWithout returns an error if one of the flags is given. It is for a command line
// without the flag that they need.
func RefuseWithout(cmd *cobra.Command, needed string, flags ...string) error {
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s needs --%s", name, needed)
		}
	}
	return nil
}

// AddSelector adds --selector with kubectl's words.
func AddSelector(cmd *cobra.Command, selector *string) {
	cmd.Flags().StringVarP(selector, "selector", "l", "", "Selector (label query) to filter on, supports '=', '==', '!=', 'in', 'notin'.")
}

// maxTTL is the longest life of a token. A longer one is a typing error.
const maxTTL = 100 * 365 * 24 * time.Hour

// AddExpiryFlags adds --ttl and --expires-at, which set the end of a token, rounded up to
// a second. The zero time means never. Without a default TTL, one of them is required.
func AddExpiryFlags(cmd *cobra.Command, end *time.Time, defaultTTL string) {
	const ttlUsage = "How long the token lives from now, such as 90m, 24h, 7d or 1w12h; 0 for a token that never expires."
	cmd.Flags().Func("ttl", ttlUsage, func(text string) error {
		ttl, err := str2duration.ParseDuration(text)
		switch {
		case err != nil || ttl != 0 && ttl < time.Second || ttl > maxTTL:
			return errors.New("use a value such as 90m, 24h, 7d or 1w12h, at most 100 years, or 0 for a token that never expires")
		case ttl == 0:
			*end = time.Time{}
		default:
			*end = roundUp(time.Now().Add(ttl))
		}
		return nil
	})
	const endUsage = "Time at which the token expires, in RFC 3339, such as 2030-01-31T12:00:00Z, instead of --ttl."
	cmd.Flags().Func("expires-at", endUsage, func(text string) error {
		at, err := time.Parse(time.RFC3339, text)
		if err == nil && !at.After(time.Now()) {
			err = errors.New("it is in the past")
		}
		*end = roundUp(at)
		return err
	})
	cmd.MarkFlagsMutuallyExclusive("ttl", "expires-at")
	CompleteValues(cmd, "ttl", "1h", "24h", "7d", "0")
	if defaultTTL == "" {
		cmd.MarkFlagsOneRequired("ttl", "expires-at")
		return
	}
	ttl := cmd.Flag("ttl")
	ttl.DefValue = defaultTTL
	utilruntime.Must(ttl.Value.Set(defaultTTL))
}

func roundUp(t time.Time) time.Time { return t.Add(time.Second - 1).Truncate(time.Second).UTC() }

// WarnAboutExpiry warns if the token never expires, or if this machine's clock differs
// from the server's by a minute. updated is the server's time of a write a moment ago,
// or zero.
func (s Streams) WarnAboutExpiry(updated, expires time.Time) {
	ahead := time.Since(updated)
	switch {
	case expires.IsZero():
		s.Warnf("the token never expires; delete it once all nodes have joined")
	case !updated.IsZero() && ahead.Abs() >= time.Minute:
		s.Warnf("the clocks of this machine and the server differ by %s; by the server's the token ends in %s",
			ahead.Round(time.Second), expires.Sub(updated).Round(time.Second))
	}
}

// stringValue is the value of a flag that must not be empty.
type stringValue[T ~string] struct {
	target  *T
	choices []string // all values, or none if there are others
}

// NonEmpty returns the value of a flag that must not be empty. A script gives an
// empty one if a variable is not set.
func NonEmpty(target *string) pflag.Value { return stringValue[string]{target: target} }

// AddChoice adds a flag with fixed values, which completion offers. The default is
// the value of its target.
func AddChoice[T ~string](cmd *cobra.Command, target *T, name, usage string, choices ...string) {
	cmd.Flags().Var(stringValue[T]{target, choices}, name, usage)
	CompleteValues(cmd, name, choices...)
}

// Set implements pflag.Value.
func (v stringValue[T]) Set(value string) error {
	switch {
	case value == "":
		return errors.New("must not be empty")
	case v.choices != nil && !slices.Contains(v.choices, value):
		return fmt.Errorf("must be one of %s", strings.Join(v.choices, ", "))
	}
	*v.target = T(value)
	return nil
}

func (v stringValue[T]) String() string { return string(*v.target) }

// Type implements pflag.Value. Help quotes the default of a string.
func (stringValue[T]) Type() string { return "string" }

// CompleteValues offers values for a flag that takes others too.
func CompleteValues(cmd *cobra.Command, flag string, values ...string) {
	complete := cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	utilruntime.Must(cmd.RegisterFlagCompletionFunc(flag, complete))
}
