package cmd

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// silenceBound is how long a server may say nothing while it is asked
// something. The API server gives a request up after a minute, and says so; an
// answer of any length may take longer than that, as long as it comes.
const silenceBound = 75 * time.Second

// errSilent is what a request fails with whose server has fallen silent. It is
// not the client library's error for a dead connection, after which that would
// ask ten times more.
var errSilent = errors.New("it stopped answering: --request-timeout sets how long to wait for it")

// errNoAPI is what a request fails with that something else has answered, such
// as a proxy that wants its user to log in. The client library would take any
// answer with status 200 for a successful delete.
var errNoAPI = errors.New("what answers with success is no Kubernetes API server: is there a proxy in between?")

// isOfAPI tells whether an answer may be that of an API server, as far as it
// speaks of success.
func isOfAPI(resp *http.Response) bool {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode >= 300 || err == nil && (mediaType == runtime.ContentTypeJSON || mediaType == runtime.ContentTypeProtobuf)
}

// notSilent is a way to a server that gives up when nothing is heard from it.
// kubectl would wait for ever. A connection on which even pings are not
// answered is found dead before, after 45 seconds, by the client library.
type notSilent struct {
	next  http.RoundTripper
	bound time.Duration
}

// RoundTrip implements http.RoundTripper.
func (n notSilent) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(n.bound, func() { cancel(errSilent) })
	resp, err := n.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		timer.Stop()
		err = orSilent(ctx, err)
		cancel(nil)
		return nil, err
	}
	timer.Stop()
	if !isOfAPI(resp) {
		defer cancel(nil)
		return nil, errors.Join(errNoAPI, resp.Body.Close())
	}
	resp.Body = &audibleBody{ReadCloser: resp.Body, ctx: ctx, end: cancel, timer: timer, bound: n.bound}
	return resp, nil
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper: by it the client
// library finds what cancels a request.
func (n notSilent) WrappedRoundTripper() http.RoundTripper { return n.next }

// orSilent returns errSilent where that is what the error came of.
func orSilent(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) || utilnet.IsHTTP2ConnectionLost(err) {
		return errSilent
	}
	return err
}

// audibleBody is the body of an answer that has to go on coming.
type audibleBody struct {
	io.ReadCloser
	ctx   context.Context
	end   context.CancelCauseFunc
	timer *time.Timer
	bound time.Duration
}

// Read implements io.Reader. How long the reader takes in between is its own
// affair.
func (b *audibleBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.bound)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = orSilent(b.ctx, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *audibleBody) Close() error {
	b.timer.Stop()
	defer b.end(nil)
	return b.ReadCloser.Close()
}
