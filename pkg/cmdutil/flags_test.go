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
		var ttl cmdutil.TTL
		if err := ttl.Set(text); err != nil || time.Duration(ttl) != want {
			t.Errorf("%s: got %v, %v", text, time.Duration(ttl), err)
		}
		var again cmdutil.TTL
		if err := again.Set(ttl.String()); err != nil || again != ttl {
			t.Errorf("%s is shown as %s: %v", text, &ttl, err)
		}
	}
	for text, want := range map[string]string{
		"": "a value such as 90m", "soon": "a value such as", "1": "a value such as", "1h ": "a value such as", "xx1h": "a value such as",
		"9999999999w": "a value such as", "-1h": "negative", "999ms": "between 1s and 100 years", "36501d": "between 1s and 100 years",
	} {
		var ttl cmdutil.TTL
		if err := ttl.Set(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", text, time.Duration(ttl), err, want)
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
		{time.Hour, now.Add(2 * time.Hour).In(zone), now, now.Add(2 * time.Hour)},
		{0, now.Add(time.Hour + 1), now, now.Add(time.Hour + time.Second)},
		{0, time.Time{}, now, time.Time{}},
		{maxTTL, time.Time{}, now, now.Add(maxTTL)},
		{0, now.Add(1), now, now.Add(time.Second)},
	} {
		got, err := (&cmdutil.Expiry{TTL: cmdutil.TTL(test.ttl), End: test.end}).At(test.now)
		if err != nil || !got.Equal(test.want) || got.Location() != time.UTC {
			t.Errorf("%v: got %v, %v", test, got, err)
		}
	}
	for end, says := range map[time.Time]string{now: "error: --expires-at 2030-06-01T12:00:00Z is in the past\n", now.Add(maxTTL + 1): "more than 100 years ahead\nhint: use --ttl 0"} {
		_, err := (&cmdutil.Expiry{End: end}).At(now)
		has(t, report(err), says)
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
			{now.Add(2 * time.Minute), now.Add(2 * time.Hour), "Warning: the clocks of this machine and the server differ by -2m0s; by the server's the token ends in 1h58m0s\n"},
			{now.Add(-59 * time.Second), now.Add(2 * time.Hour), ""}, {time.Time{}, now, ""}, {now.Add(-time.Hour), time.Time{}, ""},
		} {
			streams, _, errOut := newStreams("")
			if streams.WarnAboutClock(test.updated, test.expires); errOut.String() != test.says {
				t.Errorf("got %q, want %q", errOut, test.says)
			}
		}
	})
}
