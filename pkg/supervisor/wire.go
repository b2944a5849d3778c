package supervisor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

const (
	// maxBundle and maxAnswer are the longest bodies that are read, in bytes:
	// of /cacerts, and of everything else. A CA bundle has a few KiB, and the
	// other answers are a word or a Status.
	maxBundle = 1 << 20
	maxAnswer = 64 << 10
	// maxHeader is the longest header of an answer, in bytes.
	maxHeader = 64 << 10

	// requestLevel is from which verbosity (-v) on requests are logged, as those
	// of the client library are. Their credentials and bodies never are.
	requestLevel = 6

	// maxTries is how often a request is sent that the server is too busy for.
	maxTries = 4
	// maxWait is the longest time between two tries, whatever Retry-After says.
	maxWait = 5 * time.Second
)

// wire sends the requests to one server. It does what http.Client would not
// leave alone: it follows no redirect, keeps no cookie and never names a URL
// in an error.
type wire struct {
	server  URL
	agent   string
	timeout time.Duration
	proxy   func(*http.Request) (*url.URL, error)
	now     func() time.Time
	sleep   func(context.Context, time.Duration) error
	remote  *pin
	proxied atomic.Bool
}

// pin makes all connections go to the address that the first one reached: a
// name may stand for several servers, and what was learnt of one is not true
// of the next (a rotation that is repeated on another server does damage).
type pin struct {
	mu      sync.Mutex
	address string
}

func (p *pin) dial(dialer *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if pinned := p.get(); pinned != "" {
			address = pinned
		}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		p.set(conn.RemoteAddr().String())
		return conn, nil
	}
}

func (p *pin) get() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

func (p *pin) set(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.address == "" {
		p.address = address
	}
}

// transport returns a transport with limits for a server that means ill.
// HTTP/1.1 only, as K3s's own client: one request a connection at a time.
func (w *wire) transport(config *tls.Config, keepAlive bool) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	config.MinVersion = tls.VersionTLS12
	config.Time = w.now
	return &http.Transport{
		Proxy:                  w.chooseProxy,
		DialContext:            w.remote.dial(&net.Dialer{Timeout: w.timeout}),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    w.timeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		DisableKeepAlives:      !keepAlive,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        30 * time.Second,
		Protocols:              &protocols,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode != http.StatusOK {
				return proxyError(resp.StatusCode)
			}
			return nil
		},
	}
}

// chooseProxy returns the proxy for a request, or nil, and remembers that there
// was one.
func (w *wire) chooseProxy(req *http.Request) (*url.URL, error) {
	if w.proxy == nil {
		return nil, nil
	}
	proxy, err := w.proxy(req)
	if proxy != nil {
		w.proxied.Store(true)
	}
	return proxy, err
}

// proxyError is the status with which a proxy refuses to connect.
type proxyError int

func (e proxyError) Error() string { return fmt.Sprintf("status %d of the proxy", int(e)) }

// unverified returns a transport that takes any certificate. Only the public
// /cacerts is fetched with it, and no function takes both it and credentials.
func (w *wire) unverified() *http.Transport {
	return w.transport(&tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the first step of TLS bootstrapping: what it fetches is checked by its hash
	}, false)
}

// verified returns a transport that takes certificates of these roots only.
func (w *wire) verified(roots *x509.CertPool, keepAlive bool) *http.Transport {
	if roots == nil {
		roots = x509.NewCertPool() // nil would mean the roots of this computer
	}
	return w.transport(&tls.Config{RootCAs: roots}, keepAlive)
}

// credentials go into the Authorization header of one request. The zero value
// sends none.
type credentials struct {
	user     string
	password token.Secret
	bearer   token.Secret
}

func (c credentials) set(req *http.Request) {
	switch {
	case c.bearer != "":
		req.Header.Set("Authorization", "Bearer "+c.bearer.Reveal())
	case c.user != "":
		req.SetBasicAuth(c.user, c.password.Reveal())
	}
}

// answer is what came back.
type answer struct {
	status     int
	retryAfter string
	body       []byte
	tls        *tls.ConnectionState
}

// request is what goes out.
type request struct {
	method, path string
	credentials  credentials
	body         []byte
	// limit is the longest body of an answer, in bytes.
	limit int64
	// timeout bounds the request; zero is the wire's.
	timeout time.Duration
	// sent, if set, becomes true once a connection stands over which the
	// request can have been sent.
	sent *atomic.Bool
}

// roundTrip sends one request, once, and reads the answer to its end. A body
// that cannot be read is an error, with the status in the answer.
func (w *wire) roundTrip(ctx context.Context, transport *http.Transport, r request) (answer, error) {
	timeout := r.timeout
	if timeout == 0 {
		timeout = w.timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if r.sent != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { r.sent.Store(true) },
		})
	}
	req, err := http.NewRequestWithContext(ctx, r.method, w.server.String()+r.path, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	// Without GetBody the transport cannot send a request twice by itself.
	req.GetBody = nil
	req.Header.Set("User-Agent", w.agent)
	req.Header.Set("Accept", "application/json, */*")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r.credentials.set(req)

	log := logr.FromContextOrDiscard(ctx).V(requestLevel).WithValues("verb", r.method, "url", req.URL.String())
	start := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		err = w.describe(ctx, err)
		log.Info("No response", "reason", err.Error(), "milliseconds", time.Since(start).Milliseconds())
		return answer{}, err
	}
	log.Info("Supervisor response", "status", resp.StatusCode, "milliseconds", time.Since(start).Milliseconds())
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), tls: resp.TLS}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, r.limit+1))
	switch {
	case err != nil:
		return a, w.describe(ctx, err)
	case int64(len(a.body)) > r.limit:
		return a, fmt.Errorf("%w: it has more than %d KiB", ErrTooLarge, r.limit>>10)
	case a.status >= 300 && a.status <= 399:
		return a, fmt.Errorf("%w (status %d): give the K3s server's own address", ErrRedirect, a.status)
	}
	return a, nil
}

// patient sends a request that has no side effects, and again where the server
// is too busy or not ready, at most maxTries times.
func (w *wire) patient(ctx context.Context, transport *http.Transport, r request) (answer, error) {
	for try := 1; ; try++ {
		a, err := w.roundTrip(ctx, transport, r)
		busy := a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable
		if err != nil || !busy || try == maxTries {
			return a, err
		}
		if err := w.sleep(ctx, w.pause(try, a.retryAfter)); err != nil {
			return a, w.describe(ctx, err)
		}
	}
}

// pause returns how long to wait after a try: what the server asks for, else
// half a second and twice as long each time, but never longer than maxWait.
func (w *wire) pause(try int, retryAfter string) time.Duration {
	wait := 500 * time.Millisecond << (try - 1)
	if seconds, err := strconv.ParseUint(retryAfter, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(retryAfter); err == nil {
		wait = at.Sub(w.now())
	}
	return min(max(wait, 0), maxWait)
}

// sleep waits, or returns the context's error if it ends earlier.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// message returns what a Status of K3s or Kubernetes says, and "" where the
// body is none. It is compared, never shown: a server may answer with what it
// was sent.
func (a answer) message() string {
	var status struct{ Kind, Message string }
	if json.Unmarshal(a.body, &status) != nil || status.Kind != "Status" {
		return ""
	}
	return status.Message
}

// wireError has a text of our own for an error of the network, since theirs
// may quote what the server sent.
type wireError struct {
	text  string
	cause error
}

func (e *wireError) Error() string { return e.text }
func (e *wireError) Unwrap() error { return e.cause }

// describe says in words what went wrong on the way to the server.
func (w *wire) describe(ctx context.Context, err error) error {
	text, cause := w.reason(ctx, err)
	return &wireError{text: text, cause: cause}
}

func (w *wire) reason(ctx context.Context, err error) (string, error) {
	var (
		untrusted *tls.CertificateVerificationError
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		network   *net.OpError
		proxy     proxyError
		deadline  net.Error
	)
	switch host := w.server.HostPort(); {
	case errors.Is(ctx.Err(), context.Canceled):
		return "cancelled", context.Canceled
	case errors.As(err, &proxy):
		return fmt.Sprintf("the proxy does not connect to %s (status %d): check HTTPS_PROXY, or add the server to NO_PROXY", host, int(proxy)), nil
	case errors.As(err, &network) && network.Op == "proxyconnect":
		return fmt.Sprintf("the proxy in front of %s cannot be reached: check HTTPS_PROXY, or add the server to NO_PROXY", host), network
	case errors.As(err, &name):
		return fmt.Sprintf("the server's certificate is not for %s but for %s: use one of these names, or start the server with --tls-san %s", w.server.Host(), names(name.Certificate), w.server.Host()), err
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the server's certificate is valid from %s to %s, and now it is %s: check the clocks, and renew the certificate by restarting the server",
			stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter), stamp(w.now())), err
	case errors.As(err, &authority):
		return "the server's certificate is not signed by the CA that is trusted for it: another server answers here, or its CA was rotated and it has not been restarted", err
	case errors.As(err, &untrusted):
		return "the server's certificate is not valid: " + printable(untrusted.Err.Error()), err
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS: is this the port of the K3s server?", host), nil
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s cannot be resolved: check the server URL", w.server.Host()), dns
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &deadline) && deadline.Timeout():
		return fmt.Sprintf("%s did not answer in time: check the address and the firewall, or allow it more time", host), context.DeadlineExceeded
	case IsRefused(err):
		return fmt.Sprintf("nothing listens on %s: check the address, and that the server is running", host), syscall.ECONNREFUSED
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err), err.Error() == closedIdle:
		return fmt.Sprintf("%s closed the connection before its answer was complete", host), io.ErrUnexpectedEOF
	case errors.As(err, &network) && (network.Op == "remote error" || network.Op == "local error"): // an alert of crypto/tls
		return fmt.Sprintf("%s and this client do not agree on TLS, of which version 1.2 is the oldest taken here: is this the port of the K3s server?", host), nil
	case errors.As(err, &network) && network.Op == "dial":
		return fmt.Sprintf("%s cannot be reached: %s", host, printable(network.Err.Error())), network
	case errors.As(err, &network):
		return fmt.Sprintf("the connection to %s broke", host), io.ErrUnexpectedEOF
	default:
		return fmt.Sprintf("%s did not answer in valid HTTP within the limits: is this a K3s server?", host), nil
	}
}

// closedIdle is the text of the error, which net/http does not export, for a
// connection that the server closed before the request was written to it.
const closedIdle = "http: server closed idle connection"

// names lists whom a certificate is for, fit for a terminal.
func names(cert *x509.Certificate) string {
	const most = 8
	all := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	switch {
	case len(all) == 0:
		return "nobody"
	case len(all) > most:
		all = append(all[:most], "...")
	}
	return printable(strings.Join(all, ", "))
}

// printable replaces what does not belong on a terminal, and cuts what is too
// long for it.
func printable(s string) string {
	const longest = 300
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
