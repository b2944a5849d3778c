package cmdutil

import (
	"errors"
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

// maxTTL is the longest life of a token. A longer one is a typing error.
const maxTTL = 100 * 365 * 24 * time.Hour

// ParseTTL parses a duration with days and weeks, such as 90m, 7d or 1w12h. Zero
// stands for a token that never expires.
func ParseTTL(text string) (time.Duration, error) {
	ttl, err := str2duration.ParseDuration(text)
	if err != nil || ttl != 0 && ttl < time.Second || ttl > maxTTL {
		return 0, errors.New("use a value such as 90m, 24h, 7d or 1w12h, at most 100 years, or 0 for a token that never expires")
	}
	return ttl, nil
}

// Expiry is the end of a token, from --ttl and --expires-at.
type Expiry struct {
	TTL time.Duration
	End time.Time // instead of the TTL, unless it is zero
}

// AddFlags adds the flags. A default TTL of zero requires one of them.
func (e *Expiry) AddFlags(cmd *cobra.Command, defaultTTL time.Duration) {
	e.TTL = defaultTTL
	cmd.Flags().Func("ttl", "How long the token lives from now, such as 90m, 24h, 7d or 1w12h; 0 for a token that never expires.", func(text string) (err error) {
		e.TTL, err = ParseTTL(text)
		return err
	})
	cmd.Flags().Func("expires-at", "Time at which the token expires, in RFC 3339, such as 2030-01-31T12:00:00Z, instead of --ttl.", func(text string) (err error) {
		if e.End, err = time.Parse(time.RFC3339, text); err == nil && !e.End.After(time.Now()) {
			err = errors.New("it is in the past")
		}
		return err
	})
	cmd.MarkFlagsMutuallyExclusive("ttl", "expires-at")
	if defaultTTL == 0 {
		cmd.MarkFlagsOneRequired("ttl", "expires-at")
	} else {
		cmd.Flag("ttl").DefValue = str2duration.String(defaultTTL)
	}
	CompleteValues(cmd, "ttl", "1h", "24h", "7d", "0")
}

// At returns the end of a token that starts now, rounded up to a second. The zero
// time means never.
func (e *Expiry) At(now time.Time) time.Time {
	end := e.End
	switch {
	case end.IsZero() && e.TTL == 0:
		return end
	case end.IsZero():
		end = now.Add(e.TTL)
	}
	return end.Add(time.Second - 1).Truncate(time.Second).UTC()
}

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
