package supervisor

import (
	"errors"

	"golang.org/x/sys/windows"
)

// IsRefused tells whether nothing listens at an address.
func IsRefused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

// isReset tells whether the other side has ended a connection.
func isReset(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNABORTED)
}
