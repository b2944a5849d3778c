package cmd

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// patience is how long a command may take to end by itself after an interrupt,
// and a reader to take what is being written.
const patience = 500 * time.Millisecond

// interrupts decides what an interrupt may cut short. Much of what a command
// waits for knows no context: standard input, a named pipe, a kubeconfig's
// login program, a reader that does not read. It is left behind, unless it is
// holding on to something that has to be brought to an end.
type interrupts struct {
	mu       sync.Mutex
	holding  bool
	busy     time.Time // until when it held on to something, or was not interrupted
	left     bool
	leftover []func()
}

// await runs a command, and returns what it returns. Where it goes on after an
// interrupt, and holds on to nothing, it is left behind.
func (i *interrupts) await(ctx context.Context, command func() error) error {
	done := make(chan error, 1)
	go func() { done <- command() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	interrupted, ok := interruption(ctx)
	if !ok {
		return <-done
	}
	i.mu.Lock()
	i.busy = time.Now()
	i.mu.Unlock()
	ticker := time.NewTicker(patience / 5)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			if i.leave() {
				return interrupted
			}
		}
	}
}

func (i *interrupts) leave() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.holding || time.Since(i.busy) < patience {
		return false
	}
	i.left = true
	for _, clean := range i.leftover {
		clean()
	}
	return true
}

// hold keeps an interrupt from cutting short what follows, up to release. It
// fails where the command has been left behind.
func (e *Env) hold() error { return e.interrupts.hold() }

func (e *Env) release() { e.interrupts.release() }

func (i *interrupts) hold() error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.left {
		return errors.New("interrupted")
	}
	i.holding = true
	return nil
}

func (i *interrupts) release() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.holding, i.busy = false, time.Now()
}

// cleanUp has something removed when the command is left behind.
func (i *interrupts) cleanUp(clean func()) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.leftover = append(i.leftover, clean)
}

// interruptibleTransport gives up a request whose context is done, whatever it
// waits for: client-go's login programs know no context.
type interruptibleTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t interruptibleTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	type answer struct {
		response *http.Response
		err      error
	}
	answers := make(chan answer)
	go func() {
		response, err := t.RoundTripper.RoundTrip(r)
		select {
		case answers <- answer{response, err}:
		case <-r.Context().Done():
			if err == nil {
				_ = response.Body.Close()
			}
		}
	}()
	select {
	case a := <-answers:
		return a.response, a.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// WrappedRoundTripper implements net.RoundTripperWrapper of apimachinery.
func (t interruptibleTransport) WrappedRoundTripper() http.RoundTripper { return t.RoundTripper }

// deliverResult is writeResult for what must not be taken for delivered when it
// is not: an interrupt ends the wait for a reader that does not read.
func (e *Env) deliverResult(ctx context.Context, result []byte) error {
	done := make(chan error, 1)
	go func() { done <- e.writeResult(result) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return &outputError{context.Cause(ctx)}
	}
}
