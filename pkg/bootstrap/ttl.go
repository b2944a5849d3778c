package bootstrap

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxTTL is the longest life of a token. What lies beyond is a slip of the
// finger: a token that never expires has a value of its own, 0.
const MaxTTL = 100 * 365 * 24 * time.Hour

const goodTTL = "use a value such as 90m, 24h, 7d or 1w12h, or 0 for a token that never expires"

// ParseTTL reads how long a token lives: a Go duration such as 90m, with the
// units d (24 hours) and w (7 days) besides, as in 7d or 1w12h. 0 stands for
// ever. A negative duration and one longer than MaxTTL are errors.
func ParseTTL(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("empty duration: " + goodTTL)
	}
	if s == "0" {
		return 0, nil
	}
	if strings.HasPrefix(s, "-") {
		return 0, fmt.Errorf("negative duration %q: %s", s, goodTTL)
	}
	var total time.Duration
	for rest := s; rest != ""; {
		term, tail, err := parseTerm(rest)
		if err != nil {
			return 0, fmt.Errorf("invalid duration %q: %s", s, goodTTL)
		}
		rest = tail
		// Neither is longer than MaxTTL+1, so the sum does not overflow.
		if total += term; total > MaxTTL {
			return 0, fmt.Errorf("duration %q is longer than 100 years: %s", s, goodTTL)
		}
	}
	if total == 0 && strings.ContainsAny(s, "123456789") {
		return 0, fmt.Errorf("duration %q is shorter than a nanosecond: %s", s, goodTTL)
	}
	return total, nil
}

// parseTerm reads the first number and unit of a duration. It returns a term
// beyond MaxTTL, without a say on how far, where the number is too large.
func parseTerm(s string) (term time.Duration, rest string, err error) {
	const number = "0123456789."
	unitAt := len(s) - len(strings.TrimLeft(s, number))
	end := len(s)
	if n := strings.IndexAny(s[unitAt:], number); n >= 0 {
		end = unitAt + n
	}
	value, unit := s[:unitAt], s[unitAt:end]
	factor := time.Duration(1)
	switch unit {
	case "d":
		factor, unit = 24, "h"
	case "w":
		factor, unit = 7*24, "h"
	}
	if value == "" {
		return 0, "", errors.New("no number")
	}
	if term, err = time.ParseDuration(value + unit); err != nil {
		return 0, "", err
	}
	if term > MaxTTL/factor {
		return MaxTTL + 1, s[end:], nil
	}
	return term * factor, s[end:], nil
}
