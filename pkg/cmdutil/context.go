package cmdutil

import (
	"context"
	"time"
)

// Grace is how long work that an interrupt must not cut short may go on after
// it: a write under way, its undo, and the output that tells of them.
const Grace = 3 * time.Second

// Finish returns a context for such work. It ends Grace after ctx does.
func Finish(ctx context.Context) (context.Context, context.CancelFunc) {
	finishing, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(Grace, func() { cancel(context.Cause(ctx)) })
	})
	return finishing, func() {
		stop()
		cancel(nil)
	}
}

// Await calls f and returns its result, or the cause of ctx if that ends first.
// It is for what knows no context, such as reading a terminal: f is left behind.
func Await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
