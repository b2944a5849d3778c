// Package hint adds advice to errors. The advice is imperative, without a capital or
// a final period.
package hint

import (
	"errors"
	"fmt"
)

// Error is an error with advice.
type Error struct {
	error
	advice string
}

// Unwrap returns the error without the advice.
func (e *Error) Unwrap() error { return e.error }

// Hint returns the advice.
func (e *Error) Hint() string { return e.advice }

// New returns an error with a text and advice.
func New(text, advice string) error { return &Error{errors.New(text), advice} }

// Wrap returns err with advice.
func Wrap(err error, format string, args ...any) error {
	return &Error{err, fmt.Sprintf(format, args...)}
}

// Of returns the advice of an error, or "". An error of another type has its own in a
// method Hint() string.
func Of(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}
