package supervisor

import (
	"strconv"
	"strings"
)

// Exposure tells whether a server has a known bug.
type Exposure string

const (
	// Exposed is a server that has the bug.
	Exposed Exposure = "exposed"
	// Fixed is a server that does not have it any more.
	Fixed Exposure = "fixed"
	// ExposureUnknown is a version that says nothing about it.
	ExposureUnknown Exposure = "unknown"
)

// MalformedTokenBug tells whether a server has the bug k3s-io/k3s#12982, by its
// version, such as v1.31.1+k3s1: it takes a new server token in the form of a
// bootstrap token, answers with an error, keeps it all the same, and does not
// start again. It was fixed in v1.31.14, v1.32.10, v1.33.6 and v1.34.2. A
// pre-release of a fixed version may have it or not.
func MalformedTokenBug(version string) Exposure {
	number, build, _ := strings.Cut(version, "+")
	if !strings.HasPrefix(build, string(K3s)) && !strings.HasPrefix(build, string(RKE2)) {
		return ExposureUnknown
	}
	number, pre, _ := strings.Cut(number, "-")
	parts := strings.Split(strings.TrimPrefix(number, "v"), ".")
	if len(parts) != 3 || parts[0] != "1" {
		return ExposureUnknown
	}
	minor, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return ExposureUnknown
	}
	patch, err := strconv.ParseUint(parts[2], 10, 16)
	if err != nil {
		return ExposureUnknown
	}
	fixed, listed := map[uint64]uint64{31: 14, 32: 10, 33: 6, 34: 2}[minor]
	switch {
	case minor > 34, listed && patch > fixed, listed && patch == fixed && pre == "":
		return Fixed
	case listed && patch == fixed:
		return ExposureUnknown
	}
	return Exposed
}
