package cmdutil

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
)

// parallelism is the number of concurrent requests. More gain nothing against one
// API server.
const parallelism = 32

// ForEach calls do for 0 to n-1, several at a time, and returns their errors.
// Calls that an interrupt prevents return its cause.
func ForEach(ctx context.Context, n int, do func(i int) error) []error {
	errs := make([]error, n)
	workqueue.ParallelizeUntil(context.WithoutCancel(ctx), parallelism, n, func(i int) {
		if errs[i] = context.Cause(ctx); errs[i] == nil {
			errs[i] = do(i)
		}
	})
	return errs
}

// CountTokens returns "1 token", "2 tokens" and so on.
func CountTokens(n int) string {
	if n == 1 {
		return "1 token"
	}
	return fmt.Sprintf("%d tokens", n)
}

// Finder finds bootstrap tokens.
type Finder interface {
	Get(ctx context.Context, ref bootstrap.Ref) (*bootstrap.Token, error)
	List(ctx context.Context, selector string) (tokens []*bootstrap.Token, resourceVersion string, err error)
}

// Batch changes many tokens, and collects the failures.
type Batch struct {
	Done           string // the change, such as "deleted"
	IgnoreNotFound bool   // a missing token is no failure

	errs            []error
	failed, unknown []string // ids
	unchanged       int      // because of an interrupt
}

// Find returns the tokens that refs name, each once, or those that match the
// selector if refs is empty. A token that is not found is a failure of the batch.
func (b *Batch) Find(ctx context.Context, store Finder, refs []bootstrap.Ref, selector string) ([]*bootstrap.Token, error) {
	if len(refs) == 0 {
		tokens, _, err := store.List(ctx, selector)
		return tokens, err
	}
	found := b.each(ctx, refs, func(i int) (*bootstrap.Token, error) { return store.Get(ctx, refs[i]) })
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(t *bootstrap.Token) bool {
		again := seen[t.SecretName]
		seen[t.SecretName] = true
		return again
	}), nil
}

// Change changes the tokens, several at a time, and returns those that it changed.
func (b *Batch) Change(ctx context.Context, tokens []*bootstrap.Token, change func(*bootstrap.Token) error) []*bootstrap.Token {
	refs := make([]bootstrap.Ref, len(tokens))
	for i, t := range tokens {
		refs[i].SecretName = t.SecretName
	}
	return b.each(ctx, refs, func(i int) (*bootstrap.Token, error) { return tokens[i], change(tokens[i]) })
}

// each calls do for the index of each reference and returns the tokens of the calls
// without an error. The others are failures of the batch.
func (b *Batch) each(ctx context.Context, refs []bootstrap.Ref, do func(i int) (*bootstrap.Token, error)) []*bootstrap.Token {
	tokens := make([]*bootstrap.Token, len(refs))
	errs := ForEach(ctx, len(refs), func(i int) (err error) {
		tokens[i], err = do(i)
		return err
	})
	var good []*bootstrap.Token
	for i, err := range errs {
		if err == nil {
			good = append(good, tokens[i])
		} else {
			b.fail(refs[i].String(), err)
		}
	}
	return good
}

// fail records the error for a token.
func (b *Batch) fail(id string, err error) {
	_, uncertain := errors.AsType[*bootstrap.UncertainError](err)
	_, fromServer := errors.AsType[*apierrors.StatusError](err)
	switch {
	case b.IgnoreNotFound && apierrors.IsNotFound(err):
		return
	case uncertain:
		b.unknown = append(b.unknown, id)
	case errors.Is(err, context.Canceled):
		b.unchanged++
		return
	case !fromServer || !strings.Contains(err.Error(), id):
		b.failed = append(b.failed, id)
	}
	b.errs = append(b.errs, err)
}

// Err returns all failures, with the ids of the tokens.
func (b *Batch) Err() error {
	errs := b.errs
	if len(b.failed) > 0 {
		errs = append(errs, fmt.Errorf("%s not %s: %s", CountTokens(len(b.failed)), b.Done, strings.Join(b.failed, " ")))
	}
	if len(b.unknown) > 0 {
		lost := fmt.Errorf("the answer was lost for %s, perhaps %s: %s", CountTokens(len(b.unknown)), b.Done, strings.Join(b.unknown, " "))
		errs = append(errs, hint.Wrap(lost, "look with: kubectl k3s-token list"))
	}
	if b.unchanged > 0 {
		errs = append(errs, fmt.Errorf("interrupted: %s left unchanged", CountTokens(b.unchanged)))
	}
	return errors.Join(errs...)
}
