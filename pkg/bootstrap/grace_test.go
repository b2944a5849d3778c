package bootstrap_test

import (
	"context"
	"errors"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k3s-token/kubectl-k3s-token/pkg/bootstrap"
)

// slowSecrets is a client whose writes take that long: first to get a
// connection, as to a server that takes one and then says nothing, then to get
// an answer.
type slowSecrets struct {
	bootstrap.Secrets
	connect, write time.Duration
}

func (s slowSecrets) Create(ctx context.Context, secret *corev1.Secret, _ metav1.CreateOptions) (*corev1.Secret, error) {
	return secret, s.wait(ctx)
}

func (s slowSecrets) Delete(ctx context.Context, _ string, _ metav1.DeleteOptions) error {
	return s.wait(ctx)
}

func (s slowSecrets) wait(ctx context.Context) error {
	if err := sleep(ctx, s.connect); err != nil {
		return err
	}
	httptrace.ContextClientTrace(ctx).GotConn(httptrace.GotConnInfo{})
	return sleep(ctx, s.write)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Both write, and an interrupt comes after a second.
func TestAWriteUnderWayOutlivesAnInterruptForAWhile(t *testing.T) {
	for name, test := range map[string]struct {
		write, took time.Duration
		fails       bool
	}{
		"done before the interrupt":   {time.Second / 2, time.Second / 2, false},
		"done soon after it":          {3 * time.Second, 3 * time.Second, false},
		"done at the end of its time": {6*time.Second - 1, 6*time.Second - 1, false},
		"not done in time":            {time.Hour, 6 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := bootstrap.NewStore(slowSecrets{write: test.write})
				for verb, write := range map[string]func(context.Context) error{
					"create": func(ctx context.Context) error { return store.Create(ctx, newToken("abcdef")) },
					"delete": func(ctx context.Context) error { return store.Delete(ctx, newToken("abcdef")) },
				} {
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					start := time.Now()
					err := write(ctx)
					if test.fails != errors.Is(err, context.Canceled) || !test.fails && err != nil {
						t.Errorf("%s: error %v; that it fails should be %v", verb, err, test.fails)
					}
					if took := time.Since(start); took != test.took {
						t.Errorf("%s took %v, want %v", verb, took, test.took)
					}
					cancel()
				}
			})
		})
	}
}

func TestAWriteThatHasNotLeftIsGivenUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := bootstrap.NewStore(slowSecrets{connect: time.Minute})
		interrupted := errors.New("interrupted")
		for verb, write := range map[string]func(context.Context) error{
			"create": func(ctx context.Context) error { return store.Create(ctx, newToken("abcdef")) },
			"delete": func(ctx context.Context) error { return store.Delete(ctx, newToken("abcdef")) },
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(interrupted) })
			start := time.Now()
			if err := write(ctx); err != interrupted { //nolint:errorlint // an uncertain error wraps it
				t.Errorf("%s: error %T %v, want the interrupt itself", verb, err, err)
			}
			if took := time.Since(start); took != time.Second {
				t.Errorf("%s took %v", verb, took)
			}
		}
	})
}

func TestADeadlineEndsAWriteAfterTheSameWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := bootstrap.NewStore(slowSecrets{write: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := store.Delete(ctx, newToken("abcdef")); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
