package cmdutil_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

func TestExpiriesAreWholeSecondsAndNeverTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Nanosecond) // after 2000-01-01
		for flag, want := range map[string]string{
			"":                                       "2000-01-02T00:00:01Z",
			"ttl 0":                                  "0001-01-01T00:00:00Z",
			"ttl 1s":                                 "2000-01-01T00:00:02Z",
			"ttl 90m":                                "2000-01-01T01:30:01Z",
			"ttl 1.5h":                               "2000-01-01T01:30:01Z",
			"ttl 7d":                                 "2000-01-08T00:00:01Z",
			"ttl 1w12h":                              "2000-01-08T12:00:01Z",
			"ttl 36500d":                             "2099-12-07T00:00:01Z",
			"ttl soon":                               "use a value such as 90m",
			"ttl 1":                                  "use a value such as 90m",
			"ttl 1h ":                                "use a value such as 90m",
			"ttl xx1h":                               "use a value such as 90m",
			"ttl 9999999999w":                        "use a value such as 90m",
			"ttl -1h":                                "use a value such as 90m",
			"ttl 999ms":                              "use a value such as 90m",
			"ttl 36501d":                             "use a value such as 90m",
			"expires-at yesterday":                   "cannot parse",
			"expires-at 2000-01-01T00:00:00Z":        "is in the past",
			"expires-at 2000-01-01T01:00:00.5+01:00": "2000-01-01T00:00:01Z",
		} {
			var end time.Time
			cmd := &cobra.Command{}
			cmdutil.AddExpiryFlags(cmd, &end, "24h")
			got := ""
			name, value, given := strings.Cut(flag, " ")
			if given {
				if err := cmd.Flags().Set(name, value); err != nil {
					got = err.Error()
				}
			}
			if got == "" {
				got = end.Format(time.RFC3339Nano)
			}
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %s, want %s", flag, got, want)
			}
		}
	})
}

func TestTheUserIsToldOfClocksThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, test := range []struct {
			updated, expires time.Time
			says             string
		}{
			{now.Add(-time.Hour), now.Add(2 * time.Hour), "Warning: the clocks of this machine and the server differ by 1h0m0s; by the server's the token ends in 3h0m0s\n"},
			{now.Add(-59 * time.Second), now.Add(2 * time.Hour), ""}, {time.Time{}, now, ""},
			{now.Add(-time.Hour), time.Time{}, "Warning: the token never expires; delete it once all nodes have joined\n"},
		} {
			streams, errOut := newStreams("")
			if streams.WarnAboutExpiry(test.updated, test.expires); errOut.String() != test.says {
				t.Errorf("got %q, want %q", errOut, test.says)
			}
		}
	})
}
