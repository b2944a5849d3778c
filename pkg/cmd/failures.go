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
	undone  int   // tokens that an interrupt left as they were
	because error // the interrupt
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
		f.because = err
	case errors.Is(err, context.Canceled):
		f.errs = append(f.errs, fmt.Errorf("token %q: interrupted before the server answered: see with list what became of it", name))
	case errors.As(err, &status):
		// The API's errors name the Secret themselves.
		f.errs = append(f.errs, err)
	default:
		f.errs = append(f.errs, fmt.Errorf("token %q: %w", name, err))
	}
	return false
}

// err returns all failures, and how many tokens an interrupt left undone.
func (f *failures) err() error {
	if f.undone > 0 {
		return errors.Join(append(f.errs, fmt.Errorf("%w: %s left as they were", f.because, countTokens(f.undone)))...)
	}
	return errors.Join(f.errs...)
}
