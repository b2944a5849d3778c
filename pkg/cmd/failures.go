package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// failures collects why some of many tokens could not be worked on.
type failures struct {
	// done is what becomes of a token, such as "deleted".
	done string
	// ignoreNotFound lets a token that does not exist be no failure.
	ignoreNotFound bool

	errs      []error
	untouched []string // tokens that errors which do not name them left as they were
	unknown   []string // tokens for which no answer told what became of them
	undone    int      // tokens that an interrupt left as they were
	cut       []string // tokens for which it came before the server's answer
}

// add records what became of a token, and tells whether that was well.
func (f *failures) add(name string, err error) bool {
	var interrupted Interrupted
	var uncertain *bootstrap.UncertainError
	isUncertain, isInterrupted := errors.As(err, &uncertain), errors.As(err, &interrupted)
	switch {
	case err == nil:
		return true
	case f.ignoreNotFound && apierrors.IsNotFound(err):
	case errors.Is(err, context.Canceled), isUncertain && isInterrupted:
		f.cut = append(f.cut, name)
	case isInterrupted:
		f.undone++
	case isUncertain:
		f.errs = append(f.errs, err)
		f.unknown = append(f.unknown, name)
	case isCommon(name, err):
		f.errs = append(f.errs, err)
		f.untouched = append(f.untouched, name)
	case isAPIStatus(err):
		// The API's errors name the Secret themselves.
		f.errs = append(f.errs, err)
	default:
		f.errs = append(f.errs, fmt.Errorf("token %q: %w", name, err))
	}
	return false
}

func isAPIStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// isCommon tells whether the error is one that is said once for all tokens.
func isCommon(name string, err error) bool {
	var untried *bootstrap.UntriedError
	var connection *url.Error
	return errors.As(err, &untried) || errors.As(err, &connection) || isAPIStatus(err) && !strings.Contains(err.Error(), name)
}

// err returns all failures, and what is to be said of an interrupt.
func (f *failures) err() error {
	errs := f.errs
	if n := len(f.untouched); n > 0 {
		errs = append(errs, fmt.Errorf("%s not %s: %s", countTokens(n), f.done, strings.Join(f.untouched, " ")))
	}
	if n := len(f.unknown); n > 0 {
		errs = append(errs, fmt.Errorf("no answer told whether %s %s %s, see with list: %s", countTokens(n), wasOrWere(n), f.done, strings.Join(f.unknown, " ")))
	}
	if f.undone > 0 {
		errs = append(errs, fmt.Errorf("interrupted: %s left as they were", countTokens(f.undone)))
	}
	if n := len(f.cut); n > 0 {
		errs = append(errs, fmt.Errorf("interrupted before the server answered for %s, see with list what became of them: %s", countTokens(n), strings.Join(f.cut, " ")))
	}
	return errors.Join(errs...)
}

func wasOrWere(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
