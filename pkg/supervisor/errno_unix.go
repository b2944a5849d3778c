//go:build unix

package supervisor

import (
	"errors"
	"syscall"
)

// IsRefused tells whether nothing listens at an address.
func IsRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// isReset tells whether the other side has ended a connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
