package cmd

import (
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

func TestExpiryIsAWholeSecondAndNeverTooEarly(t *testing.T) {
	start := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	zone := time.FixedZone("UTC-7", -7*3600)
	for name, test := range map[string]struct {
		expiry expiry
		now    time.Time
		want   time.Time
	}{
		"whole":                        {expiry{ttl: time.Hour}, start, start.Add(time.Hour)},
		"a nanosecond later":           {expiry{ttl: time.Hour}, start.Add(1), start.Add(time.Hour + time.Second)},
		"a nanosecond before the next": {expiry{ttl: time.Hour}, start.Add(time.Second - 1), start.Add(time.Hour + time.Second)},
		"a fraction in the ttl":        {expiry{ttl: 1500 * time.Millisecond}, start, start.Add(2 * time.Second)},
		"shortest":                     {expiry{ttl: minTTL}, start, start.Add(time.Second)},
		"longest":                      {expiry{ttl: bootstrap.MaxTTL}, start, start.Add(bootstrap.MaxTTL)},
		"an end":                       {expiry{end: start.Add(time.Hour)}, start, start.Add(time.Hour)},
		"an end in another zone":       {expiry{end: start.Add(time.Hour).In(zone)}, start, start.Add(time.Hour)},
		"an end with a fraction":       {expiry{end: start.Add(time.Hour + 1)}, start, start.Add(time.Hour + time.Second)},
		"never":                        {expiry{}, start, time.Time{}},
		"the clock is elsewhere":       {expiry{ttl: time.Hour}, start.In(zone), start.Add(time.Hour)},
	} {
		got, err := test.expiry.at(test.now)
		if err != nil || !got.Equal(test.want) || got.Location() != time.UTC {
			t.Errorf("%s: %v (%v), want %v", name, got, err, test.want)
		}
	}
	for want, e := range map[string]expiry{
		"2025-06-01T12:00:00Z is in the past": {end: start},
		"2025-06-01T11:59:59Z is in the past": {end: start.Add(-time.Second)},
		"more than 100 years ahead":           {end: start.Add(bootstrap.MaxTTL + 1)},
	} {
		if got, err := e.at(start); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v (%v), want an error that says %q", got, err, want)
		}
	}
}
