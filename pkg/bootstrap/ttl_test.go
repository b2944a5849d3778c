package bootstrap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

func TestParseTTL(t *testing.T) {
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"0":           0,
		"0s":          0,
		"0h0m":        0,
		"0d":          0,
		"0.0h":        0,
		"1ns":         time.Nanosecond,
		"90m":         90 * time.Minute,
		"24h":         day,
		"1h30m":       90 * time.Minute,
		"7d":          7 * day,
		"1w":          7 * day,
		"1w12h":       7*day + 12*time.Hour,
		"1w2d3h4m5s":  9*day + 3*time.Hour + 4*time.Minute + 5*time.Second,
		"1.5d":        36 * time.Hour,
		".5w":         84 * time.Hour,
		"1.d":         day,
		"12h1w":       7*day + 12*time.Hour,
		"1d1d":        2 * day,
		"007d":        7 * day,
		"100ms":       100 * time.Millisecond,
		"5µs":         5 * time.Microsecond,
		"36500d":      bootstrap.MaxTTL,
		"876000h":     bootstrap.MaxTTL,
		"36499d24h":   bootstrap.MaxTTL,
		"0.5h0.5h":    time.Hour,
		"1d0.000001s": day + time.Microsecond,
	} {
		got, err := bootstrap.ParseTTL(in)
		if err != nil || got != want {
			t.Errorf("ParseTTL(%q) = %v (%v), want %v", in, got, err, want)
		}
	}
}

func TestParseTTLRefusesWhatIsNoLife(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "empty duration",
		"-1h":                  "negative",
		"-0":                   "negative",
		"-":                    "negative",
		"1":                    "invalid",
		"00":                   "invalid",
		"24":                   "invalid",
		"h":                    "invalid",
		"d":                    "invalid",
		"+1h":                  "invalid",
		"1h-1m":                "invalid",
		"1h -1m":               "invalid",
		"1h 30m":               "invalid",
		" 1h":                  "invalid",
		"1h ":                  "invalid",
		"1y":                   "invalid",
		"1M":                   "invalid",
		"1D":                   "invalid",
		"1dd":                  "invalid",
		"1dh":                  "invalid",
		"1..5h":                "invalid",
		".h":                   "invalid",
		".":                    "invalid",
		"1e3h":                 "invalid",
		"0x10h":                "invalid",
		"1h\x00":               "invalid",
		"١h":                   "invalid",
		"forever":              "invalid",
		"36501d":               "longer than 100 years",
		"5215w":                "longer than 100 years",
		"876000h1ns":           "longer than 100 years",
		"2000000h":             "longer than 100 years",
		"36500d1ns":            "longer than 100 years",
		"36500d36500d36500d":   "longer than 100 years",
		"100000d":              "longer than 100 years",
		"99999999999999999d":   "duration",
		"1w1w1w1w1w1w36500d":   "longer than 100 years",
		"0.1ns":                "shorter than a nanosecond",
		"0.00000000000000001d": "shorter than a nanosecond",
	} {
		got, err := bootstrap.ParseTTL(in)
		if err == nil || got != 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTTL(%q) = %v (%v), want an error that says %q", in, got, err, want)
		}
	}
}

func FuzzParseTTL(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		got, err := bootstrap.ParseTTL(s)
		if err != nil {
			if got != 0 {
				t.Fatalf("%v comes with the error %v", got, err)
			}
			if !strings.Contains(err.Error(), "0 for a token that never expires") {
				t.Fatalf("error %q does not say what would be right", err)
			}
			return
		}
		if got < 0 || got > bootstrap.MaxTTL {
			t.Fatalf("%q is %v: out of bounds", s, got)
		}
		// For ever is only what says so.
		if (got == 0) != !strings.ContainsAny(s, "123456789") {
			t.Fatalf("%q is %v", s, got)
		}
		if want, err := time.ParseDuration(s); err == nil && want != got {
			t.Fatalf("%q is %v, and %v in Go", s, got, want)
		}
		if got > 0 {
			if again, err := bootstrap.ParseTTL(got.String()); err != nil || again != got {
				t.Fatalf("%v is read back as %v (%v)", got, again, err)
			}
		}
	})
}
