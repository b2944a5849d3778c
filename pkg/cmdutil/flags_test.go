package cmdutil_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/cmdutil"
)

const maxTTL = 100 * 365 * 24 * time.Hour

func TestTTLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "1s": time.Second, "90m": 90 * time.Minute, "1.5h": 90 * time.Minute, "7d": 168 * time.Hour,
		"1w12h": 180 * time.Hour, "36500d": maxTTL,
	} {
		if ttl, err := cmdutil.ParseTTL(text); err != nil || ttl != want {
			t.Errorf("%s: got %v, %v", text, ttl, err)
		}
	}
	for _, text := range []string{"", "soon", "1", "1h ", "xx1h", "9999999999w", "-1h", "999ms", "36501d"} {
		if ttl, err := cmdutil.ParseTTL(text); err == nil || !strings.Contains(err.Error(), "use a value such as 90m") {
			t.Errorf("%q: got %v, %v", text, ttl, err)
		}
	}
}

func TestAnExpiryIsAWholeSecondAndNeverTooEarly(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)
	zone := time.FixedZone("UTC-7", -7*3600)
	for _, test := range []struct {
		ttl       time.Duration
		end       time.Time
		now, want time.Time
	}{
		{time.Hour, time.Time{}, now, now.Add(time.Hour)},
		{time.Hour, time.Time{}, now.Add(1).In(zone), now.Add(time.Hour + time.Second)},
		{0, now.Add(time.Hour + 1), now, now.Add(time.Hour + time.Second)},
		{0, time.Time{}, now, time.Time{}},
	} {
		if got := (&cmdutil.Expiry{TTL: test.ttl, End: test.end}).At(test.now); !got.Equal(test.want) || got.Location() != time.UTC {
			t.Errorf("%v: got %v", test, got)
		}
	}
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
			streams, _, errOut := newStreams("")
			if streams.WarnAboutExpiry(test.updated, test.expires); errOut.String() != test.says {
				t.Errorf("got %q, want %q", errOut, test.says)
			}
		}
	})
}
