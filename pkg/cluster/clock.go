package cluster

import (
	"net/http"
	"sync"
	"time"
)

// maxSkew is how far apart two clocks may be and still count as one. Tokens
// live for minutes at least, and an answer's Date has whole seconds only.
const maxSkew = time.Minute

// Clock tells the time by which a cluster judges when its tokens end. That is
// this machine's own, unless the Date of the server's answers shows that the
// two are more than a minute apart: then it is the server's. It is safe for use
// from several goroutines.
type Clock struct {
	own func() time.Time

	mu        sync.Mutex
	known     bool
	skew      time.Duration
	roundTrip time.Duration // of the answer that says so: the shorter, the better it knows
}

// NewClock returns a clock that goes by this machine's, until it has seen an
// answer of the server.
func NewClock(own func() time.Time) *Clock { return &Clock{own: own} }

// Observe returns a transport that reads the server's time off each answer on
// its way. It sends nothing by itself.
func (c *Clock) Observe(next http.RoundTripper) http.RoundTripper {
	return &observer{clock: c, next: next}
}

type observer struct {
	clock *Clock
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := o.clock.own()
	response, err := o.next.RoundTrip(r)
	// What a cache has kept is as old as its Date.
	if err == nil && response.Header.Get("Age") == "" {
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			o.clock.learn(sent, date, o.clock.own())
		}
	}
	return response, err
}

// WrappedRoundTripper tells the client library what is below, which it needs
// for cancelling requests.
func (o *observer) WrappedRoundTripper() http.RoundTripper { return o.next }

// learn takes the server's clock to have shown the date, cut to its second, at
// some moment between the two times of this machine's.
func (c *Clock) learn(sent, date, received time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	roundTrip := received.Sub(sent)
	if c.known && roundTrip > c.roundTrip {
		return
	}
	c.known, c.roundTrip, c.skew = true, roundTrip, 0
	// A slow answer is no wrong clock: both ends have to be too far away.
	least, most := date.Sub(received), date.Add(time.Second).Sub(sent)
	if least > maxSkew || most < -maxSkew {
		c.skew = least + (most-least)/2
	}
}

// Skew returns how far the server's clock is ahead of this machine's, negative
// where it is behind. Zero stands for a difference of a minute at most, and for
// one that is not known.
func (c *Clock) Skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew
}

// Now returns the time by which the cluster judges.
func (c *Clock) Now() time.Time { return c.own().Add(c.Skew()) }
