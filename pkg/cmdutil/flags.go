package cmdutil

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/xhit/go-str2duration/v2"

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
	cmd.Flags().StringVar((*string)(d), "dry-run", string(DryRunNone), `Must be "none", "server", or "client". If client strategy, only print the object that would be sent, without sending it. If server strategy, submit server-side request without persisting the resource.`)
	CompleteValues(cmd, "dry-run", string(DryRunNone), string(DryRunServer), string(DryRunClient))
}

// Validate returns an error for any other value.
func (d DryRun) Validate() error {
	if !slices.Contains([]DryRun{DryRunNone, DryRunClient, DryRunServer}, d) {
		return fmt.Errorf(`invalid dry-run value (%s). Must be "none", "server", or "client"`, string(d))
	}
	return nil
}

// Suffix is what kubectl adds to its messages in a dry run.
func (d DryRun) Suffix() string {
	return map[DryRun]string{DryRunClient: " (dry run)", DryRunServer: " (server dry run)"}[d]
}

// Store returns the store that writes as far as the value allows.
func (d DryRun) Store(store *bootstrap.Store) *bootstrap.Store {
	if d == DryRunServer {
		return store.WithDryRun()
	}
	return store
}

// maxTTL is the longest life of a token; what is longer is a typing error.
const maxTTL = 100 * 365 * 24 * time.Hour

// TTL is a duration flag with days and weeks, such as 90m, 7d or 1w12h.
type TTL time.Duration

// String implements pflag.Value.
func (t *TTL) String() string {
	if *t == 0 {
		return "0"
	}
	return str2duration.String(time.Duration(*t))
}

// Type implements pflag.Value.
func (t *TTL) Type() string { return "duration" }

// Set implements pflag.Value.
func (t *TTL) Set(text string) error {
	ttl, err := str2duration.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New("use a value such as 90m, 24h, 7d or 1w12h, or 0 for a token that never expires")
	case ttl < 0:
		return errors.New("must not be negative; 0 is for a token that never expires")
	case ttl > 0 && ttl < time.Second, ttl > maxTTL:
		return errors.New("must be between 1s and 100 years; 0 is for a token that never expires")
	}
	*t = TTL(ttl)
	return nil
}

// Expiry is --ttl and --expires-at: when a token ends.
type Expiry struct {
	TTL TTL
	End time.Time
}

// AddFlags adds the flags. A default TTL of zero requires one of them.
func (e *Expiry) AddFlags(cmd *cobra.Command, defaultTTL time.Duration) {
	e.TTL = TTL(defaultTTL)
	cmd.Flags().Var(&e.TTL, "ttl", "How long the token lives from now, such as 90m, 24h, 7d or 1w12h; 0 for a token that never expires.")
	cmd.Flags().TimeVar(&e.End, "expires-at", time.Time{}, []string{time.RFC3339}, "Time at which the token expires, in RFC 3339, such as 2030-01-31T12:00:00Z, instead of --ttl.")
	cmd.MarkFlagsMutuallyExclusive("ttl", "expires-at")
	if defaultTTL == 0 {
		cmd.Flag("ttl").DefValue = "" // which zero is not
		cmd.MarkFlagsOneRequired("ttl", "expires-at")
	}
	CompleteValues(cmd, "ttl", "1h", "24h", "7d", "0")
	CompleteValues(cmd, "expires-at")
}

// At returns when a token ends that starts now, in whole seconds and never
// before the time that was asked for. The zero time is never.
func (e *Expiry) At(now time.Time) (time.Time, error) {
	end := e.End
	switch {
	case end.IsZero() && e.TTL == 0:
		return time.Time{}, nil
	case end.IsZero():
		end = now.Add(time.Duration(e.TTL))
	case !end.After(now):
		return time.Time{}, fmt.Errorf("--expires-at %s is in the past", end.Format(time.RFC3339))
	case end.Sub(now) > maxTTL:
		return time.Time{}, WithHint(errors.New("--expires-at is more than 100 years ahead"), "use --ttl 0 for a token that never expires")
	}
	return end.Add(time.Second - 1).Truncate(time.Second).UTC(), nil
}

// WarnIfForever warns of a token that never expires.
func (s Streams) WarnIfForever(expires time.Time) {
	if expires.IsZero() {
		s.Warnf("the token never expires; delete it once all nodes have joined")
	}
}

// clockTolerance is how far this machine's clock may be from the server's
// before the user is told.
const clockTolerance = time.Minute

// WarnAboutClock warns if this machine's clock, by which expires was computed,
// differs from the server's. updated is the server's time of a write a moment ago.
func (s Streams) WarnAboutClock(updated, expires time.Time) {
	ahead := time.Since(updated)
	if updated.IsZero() || expires.IsZero() || ahead.Abs() < clockTolerance {
		return
	}
	s.Warnf("the clocks of this machine and the server differ by %s; by the server's the token ends in %s",
		ahead.Round(time.Second), expires.Sub(updated).Round(time.Second))
}
