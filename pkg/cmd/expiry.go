package cmd

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// minTTL is the shortest life of a token: what is shorter is over before the
// token is printed.
const minTTL = time.Second

// expiryFlags say when a token ends.
type expiryFlags struct {
	ttl       string
	expiresAt string
}

// addFlags adds --ttl and --expires-at. An empty default makes one of them a
// must.
func (f *expiryFlags) addFlags(cmd *cobra.Command, defaultTTL string) {
	cmd.Flags().StringVar(&f.ttl, "ttl", defaultTTL, "How long the token lives from now, such as 90m, 24h, 7d or 1w12h; 0 for a token that never expires.")
	cmd.Flags().StringVar(&f.expiresAt, "expires-at", "", "When the token ends, in RFC 3339, such as 2030-01-31T12:00:00Z, instead of --ttl.")
	cmd.MarkFlagsMutuallyExclusive("ttl", "expires-at")
	if defaultTTL == "" {
		cmd.MarkFlagsOneRequired("ttl", "expires-at")
	}
	completeValues(cmd, "ttl", "1h", "24h", "7d", "0")
	completeValues(cmd, "expires-at")
}

// expiry is a checked pair of the flags: an end, or a life from some time on.
type expiry struct {
	ttl time.Duration // 0 is for ever, unless there is an end
	end time.Time
}

func (f *expiryFlags) toExpiry(cmd *cobra.Command) (expiry, error) {
	if cmd.Flags().Changed("expires-at") {
		end, err := time.Parse(time.RFC3339, f.expiresAt)
		if err != nil {
			return expiry{}, fmt.Errorf("--expires-at %q is not a time in RFC 3339: write it as 2030-01-31T12:00:00Z", f.expiresAt)
		}
		if end.IsZero() {
			end = end.Add(1) // the zero time stands for none
		}
		return expiry{end: end}, nil
	}
	ttl, err := bootstrap.ParseTTL(f.ttl)
	if err != nil {
		return expiry{}, fmt.Errorf("--ttl: %w", err)
	}
	if ttl > 0 && ttl < minTTL {
		return expiry{}, fmt.Errorf("--ttl %s: the token would expire before it is printed: use %v at least", f.ttl, minTTL)
	}
	return expiry{ttl: ttl}, nil
}

// never tells whether there is no end.
func (e expiry) never() bool { return e.ttl == 0 && e.end.IsZero() }

// at returns when a token ends that starts now, to the second, and never
// earlier than asked for; the zero time is never.
func (e expiry) at(now time.Time) (time.Time, error) {
	if e.never() {
		return time.Time{}, nil
	}
	end := e.end
	if end.IsZero() {
		end = now.Add(e.ttl)
	}
	if !end.After(now) {
		return time.Time{}, fmt.Errorf("--expires-at %s is in the past: the token would be removed at once", end.Format(time.RFC3339))
	}
	if end.Sub(now) > bootstrap.MaxTTL {
		return time.Time{}, errors.New("--expires-at is more than 100 years ahead: use --ttl 0 for a token that never expires")
	}
	return end.Add(time.Second - 1).Truncate(time.Second).UTC(), nil
}

// warnIfForever tells what it means that a token never ends.
func (e *Env) warnIfForever(expires time.Time) {
	if expires.IsZero() {
		e.warn("a token that never expires stays good for whoever finds it: delete it when the nodes have joined")
	}
}
