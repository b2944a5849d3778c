package faultproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// forwardBound is how long a request may take that is carried out though its
// client has gone.
const forwardBound = 10 * time.Second

// A Request is one that the proxy has received whole.
type Request struct {
	*http.Request
	Body []byte

	proxy *HTTP
}

// Forward has the server carry the request out, whatever becomes of the client,
// and returns its answer.
func (r *Request) Forward() *httptest.ResponseRecorder {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), forwardBound)
	defer cancel()
	again := r.Clone(ctx)
	again.Body = io.NopCloser(bytes.NewReader(r.Body))
	answer := httptest.NewRecorder()
	r.proxy.forward.ServeHTTP(answer, again)
	return answer
}

// ForwardLater is Forward after that time, in the background.
func (r *Request) ForwardLater(delay time.Duration) {
	r.proxy.later.Go(func() {
		select {
		case <-time.After(delay):
			r.Forward()
		case <-r.proxy.closing:
		}
	})
}

// A Spoiler answers a request in the server's place.
type Spoiler func(w http.ResponseWriter, r *Request)

// Through answers as the server does.
func Through(w http.ResponseWriter, r *Request) {
	answer := r.Forward()
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// Status answers with a status and no body, and the server never sees the
// request. A retryAfter of less than 0 says nothing of when to come again.
func Status(code, retryAfter int) Spoiler {
	return func(w http.ResponseWriter, _ *Request) {
		if retryAfter >= 0 {
			w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		}
		w.WriteHeader(code)
	}
}

// Abort ends the request without an answer, and the server never sees it.
func Abort(http.ResponseWriter, *Request) { panic(http.ErrAbortHandler) }

// After has the server carry out the request, and answers otherwise.
func After(answer Spoiler) Spoiler {
	return func(w http.ResponseWriter, r *Request) {
		r.Forward()
		answer(w, r)
	}
}

// Late answers at once, and has the server carry out the request so much later.
func Late(delay time.Duration, answer Spoiler) Spoiler {
	return func(w http.ResponseWriter, r *Request) {
		r.ForwardLater(delay)
		answer(w, r)
	}
}

// First spoils the first n requests of the method, one after the other by the
// spoilers in turn.
func First(n int64, method string, spoilers ...Spoiler) Spoiler {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *Request) {
		if r.Method == method {
			if i := seen.Add(1); i <= n {
				spoilers[int(i-1)%len(spoilers)](w, r)
				return
			}
		}
		Through(w, r)
	}
}

// HTTP is a proxy for HTTPS requests. It has a certificate of its own, and sends
// the requests on with credentials of its own.
type HTTP struct {
	// URL is where it listens.
	URL string
	// CA is the certificate that it is trusted by, as PEM.
	CA []byte

	// Close takes the proxy away, and with it what it was to send later.
	Close func()

	forward *httputil.ReverseProxy
	closing chan struct{}
	later   sync.WaitGroup

	mu       sync.Mutex
	requests []string
}

// StartHTTP starts a proxy before the server, which it reaches with that TLS
// configuration. It is closed when the test is over, if not before.
func StartHTTP(t testing.TB, server string, upstream *tls.Config, spoil Spoiler) *HTTP {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: upstream, ForceAttemptHTTP2: true}
	silent := log.New(io.Discard, "", 0)
	p := &HTTP{
		forward: &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport: transport,
			ErrorLog:  silent,
		},
		closing: make(chan struct{}),
	}
	listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.requests = append(p.requests, r.Method)
		p.mu.Unlock()
		spoil(w, &Request{Request: r, Body: body, proxy: p})
	}))
	listener.EnableHTTP2 = true
	listener.Config.ErrorLog = silent
	listener.StartTLS()
	p.URL = listener.URL
	p.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: listener.Certificate().Raw})
	p.Close = sync.OnceFunc(func() {
		close(p.closing)
		p.later.Wait()
		listener.CloseClientConnections()
		listener.Close()
		transport.CloseIdleConnections()
	})
	t.Cleanup(p.Close)
	return p
}

// Requests returns the methods of the requests so far, in their order.
func (p *HTTP) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}
