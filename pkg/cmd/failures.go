package cmd

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// failures collects why some of many tokens could not be worked on.
type failures struct {
	// ignoreNotFound lets a token that does not exist be no failure.
	ignoreNotFound bool

	errs    []error
	undone  int // tokens that an interrupt left as they were
	unknown int // tokens for which it came before the server's answer
}

// add records what became of a token, and tells whether that was well.
func (f *failures) add(name string, err error) bool {
	var interrupted Interrupted
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return true
	case f.ignoreNotFound && apierrors.IsNotFound(err):
	case errors.As(err, &interrupted):
		f.undone++
	case errors.Is(err, context.Canceled):
		f.unknown++
	case errors.As(err, &status):
		// The API's errors name the Secret themselves.
		f.errs = append(f.errs, err)
	default:
		f.errs = append(f.errs, fmt.Errorf("token %q: %w", name, err))
	}
	return false
}

// err returns all failures, and what is to be said of an interrupt.
func (f *failures) err() error {
	errs := f.errs
	if f.undone > 0 {
		errs = append(errs, fmt.Errorf("interrupted: %s left as they were", countTokens(f.undone)))
	}
	if f.unknown > 0 {
		errs = append(errs, fmt.Errorf("interrupted before the server answered for %s: see with list what became of them", countTokens(f.unknown)))
	}
	return errors.Join(errs...)
}
