package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// parallelism is how many requests are under way at once. More gains nothing
// against one API server.
const parallelism = 32

// ForEach calls do for 0 to n-1, several at a time, and returns their errors.
// Calls that an interrupt prevents have its cause as their error.
func ForEach(ctx context.Context, n int, do func(i int) error) []error {
	errs := make([]error, n)
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i := range n {
		group.Go(func() error {
			if errs[i] = context.Cause(ctx); errs[i] == nil {
				errs[i] = do(i)
			}
			return nil
		})
	}
	_ = group.Wait()
	return errs
}

// CountTokens returns "1 token", "2 tokens" and so on.
func CountTokens(n int) string {
	if n == 1 {
		return "1 token"
	}
	return fmt.Sprintf("%d tokens", n)
}

// Failures collects what went wrong with some of many tokens.
type Failures struct {
	Done           string // what was to become of the tokens, such as "deleted"
	IgnoreNotFound bool   // a token that is not there is no failure

	errs            []error
	failed, unknown []string
	unchanged       int // because of an interrupt
}

// Add records the error for a token, and tells whether there is none.
func (f *Failures) Add(id string, err error) bool {
	var uncertain *bootstrap.UncertainError
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return true
	case f.IgnoreNotFound && apierrors.IsNotFound(err):
	case errors.As(err, &uncertain):
		f.errs, f.unknown = append(f.errs, err), append(f.unknown, id)
	case errors.Is(err, context.Canceled):
		f.unchanged++
	case errors.As(err, &status) && strings.Contains(err.Error(), id):
		f.errs = append(f.errs, err)
	default:
		f.errs, f.failed = append(f.errs, err), append(f.failed, id)
	}
	return false
}

// Err returns all failures, with the ids of the tokens.
func (f *Failures) Err() error {
	errs := f.errs
	if len(f.failed) > 0 {
		errs = append(errs, fmt.Errorf("%s not %s: %s", CountTokens(len(f.failed)), f.Done, strings.Join(f.failed, " ")))
	}
	if len(f.unknown) > 0 {
		errs = append(errs, WithHint(fmt.Errorf("the answer was lost for %s, perhaps %s: %s", CountTokens(len(f.unknown)), f.Done, strings.Join(f.unknown, " ")),
			"look with: kubectl k3s-token list"))
	}
	if f.unchanged > 0 {
		errs = append(errs, fmt.Errorf("interrupted: %s left unchanged", CountTokens(f.unchanged)))
	}
	return errors.Join(errs...)
}

// Finder finds bootstrap tokens.
type Finder interface {
	Get(ctx context.Context, ref bootstrap.Ref) (*bootstrap.Token, error)
	List(ctx context.Context, selector string) (bootstrap.List, error)
}

// Find returns the tokens that refs name, each once, or those that match the
// selector if refs is empty. Of those that are named, the others go to failures.
func Find(ctx context.Context, store Finder, refs []bootstrap.Ref, selector string, failures *Failures) ([]*bootstrap.Token, error) {
	if len(refs) == 0 {
		list, err := store.List(ctx, selector)
		return list.Items, err
	}
	tokens := make([]*bootstrap.Token, len(refs))
	errs := ForEach(ctx, len(refs), func(i int) (err error) {
		tokens[i], err = store.Get(ctx, refs[i])
		return err
	})
	var found []*bootstrap.Token
	seen := map[string]bool{}
	for i, t := range tokens {
		if failures.Add(refs[i].String(), errs[i]) && !seen[t.SecretName] {
			seen[t.SecretName] = true
			found = append(found, t)
		}
	}
	return found, nil
}
