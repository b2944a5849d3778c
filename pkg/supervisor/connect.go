// Package supervisor is a client of the K3s supervisor, the service that a
// joining node talks to: it establishes which server answers (Connect), finds
// out what a token is good for (Session.Probe, Verify), and replaces the
// server token (Session.Rotate).
//
// The first rule of the package: credentials are sent only by a Session, and a
// Session exists only once the server has proved who it is. Redirects are not
// followed, cookies not kept, bodies, headers and times are limited, and no
// error holds anything of a token.
package supervisor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

var (
	// ErrNotSupervisor says that what answers is no K3s or RKE2 supervisor.
	ErrNotSupervisor = errors.New("this is not a K3s supervisor")
	// ErrUnverified says that there is no CA hash to tell the server by, and
	// that Options.TrustUnknownServer was not given.
	ErrUnverified = errors.New("the token has no CA hash, so nothing tells this server from an impostor, and nothing was sent to it")
	// ErrPubliclyTrusted says that the server is not the one of the CA hash,
	// but has a certificate that this computer trusts, and that
	// Options.TrustSystemRoots was not given.
	ErrPubliclyTrusted = errors.New("its certificate is trusted by the CA bundle of this computer, and a node whose host trusts it too would join without checking the hash")
	// ErrBundleChanged says that the server shows one CA bundle at first and
	// another later.
	ErrBundleChanged = errors.New("the server now shows another CA bundle than a moment ago: several servers that disagree, or somebody in between; try again, against one server")
	// ErrRedirect says that the server sends the client elsewhere.
	ErrRedirect = errors.New("the server answers with a redirect, which is never followed")
	// ErrTooLarge says that a body is longer than any honest one.
	ErrTooLarge = errors.New("the server's answer is too large")
)

// HashMismatchError says that a server has another CA than the token.
type HashMismatchError struct {
	// Token and Server are the two CA hashes.
	Token, Server string
}

func (e *HashMismatchError) Error() string {
	return fmt.Sprintf("the token is for the CA %s, and the server has %s: it is another cluster, the token is older than its CA, or somebody answers in the server's place", e.Token, e.Server)
}

// Step is one of the five steps of K3s TLS bootstrapping.
type Step struct {
	// Number counts from 1.
	Number int
	// Name says what the step does.
	Name string
	// Status says how it ended.
	Status Status
	// Detail says what was found, or why the step failed or was skipped.
	Detail string
}

// Status is how a step ended.
type Status string

const (
	// Passed is a step that found what it should.
	Passed Status = "passed"
	// Skipped is a step that could not be done, and was not insisted on.
	Skipped Status = "skipped"
	// Failed is a step after which no other follows.
	Failed Status = "failed"
)

// The steps, by number.
const (
	StepDownload = iota + 1
	StepHash
	StepCompare
	StepValidate
	StepCredentials
)

// StepName returns what a step does.
func StepName(number int) string {
	switch number {
	case StepDownload:
		return "download the CA bundle"
	case StepHash:
		return "compute its hash"
	case StepCompare:
		return "compare it with the token's"
	case StepValidate:
		return "validate the server's certificate"
	case StepCredentials:
		return "send the credentials"
	}
	return ""
}

// StepError is the failure of a step.
type StepError struct {
	// Step is its number.
	Step int
	// Err is the reason.
	Err error
}

func (e *StepError) Error() string {
	return fmt.Sprintf("step %d, %s: %v", e.Step, StepName(e.Step), e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// Options say how far a server is trusted. The zero value trusts nobody: it
// asks for a CAHash.
type Options struct {
	// CAHash is the hash of the cluster's CA: the token's, or for a short
	// token one that is known from elsewhere.
	CAHash string
	// TrustUnknownServer goes on where CAHash is empty, with whatever CA the
	// server shows, as a joining node does with a short token.
	TrustUnknownServer bool

	// SystemRoots are the CAs that this computer trusts. K3s tries them first,
	// and where they vouch for the server it neither looks at the CA hash nor
	// at the bundle. Here the hash comes first: a laptop often trusts a
	// company's CA that can sign a certificate for any name. Only where the
	// hash does not lead to the server are the system's roots looked at, and
	// only with TrustSystemRoots are they enough. Nil: they are not looked at.
	SystemRoots *x509.CertPool
	// TrustSystemRoots goes on where SystemRoots vouch for the server, as a
	// joining node does.
	TrustSystemRoots bool

	// Proxy is as in http.Transport. A joining node uses none for a server
	// that it knows by its CA; a person's computer may have to, and TLS hides
	// everything from it but the address. Nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent names the client in the server's logs.
	UserAgent string
	// Timeout bounds each request from the first packet to the last byte of
	// the answer. Zero: ten seconds, as in K3s.
	Timeout time.Duration
	// RotateTimeout bounds each try of Rotate, which takes the server longer:
	// it encrypts the cluster's keys anew and writes them to the datastore.
	// Zero: thirty seconds.
	RotateTimeout time.Duration
	// Observe, if set, is called with each step as it ends.
	Observe func(Step)

	// Now is the clock that certificates are checked by. Nil: time.Now.
	Now func() time.Time
	// Sleep waits before a request is repeated, and returns the context's
	// error if that ends earlier. Nil: real time.
	Sleep func(context.Context, time.Duration) error
}

const (
	defaultTimeout       = 10 * time.Second
	defaultRotateTimeout = 30 * time.Second
)

// Session is a server that has proved who it is. It is safe for concurrent
// use; Close it after use.
type Session struct {
	wire          *wire
	roots         *x509.CertPool
	transport     *http.Transport
	caHash        string
	distribution  Distribution
	rotateTimeout time.Duration
}

// CAHash returns the hash of the CA that the server shows.
func (s *Session) CAHash() string { return s.caHash }

// Distribution returns the name under which the supervisor speaks.
func (s *Session) Distribution() Distribution { return s.distribution }

// Remote returns the IP address and port that all connections of the session
// go to: one server of those that a DNS name stands for, or a proxy.
func (s *Session) Remote() string { return s.wire.remote.get() }

// Proxied tells whether the session goes through a proxy. Remote is then the
// proxy's address, and which server is behind it only the proxy knows.
func (s *Session) Proxied() bool { return s.wire.proxied.Load() }

// Close closes the idle connections.
func (s *Session) Close() { s.transport.CloseIdleConnections() }

// Connect takes the first four steps of TLS bootstrapping, as a joining node
// does (setAndValidateServer and getCACerts in K3s's pkg/clientaccess), sends
// no credentials, and returns the session that can. The error of a step is a
// *StepError.
func Connect(ctx context.Context, server URL, opts Options) (*Session, error) {
	h := handshake{opts: opts.withDefaults(), server: server}
	h.wire = &wire{
		server: server, agent: h.opts.UserAgent, timeout: h.opts.Timeout, proxy: h.opts.Proxy,
		now: h.opts.Now, sleep: h.opts.Sleep, remote: &pin{},
	}
	return h.run(ctx)
}

func (o Options) withDefaults() Options {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.RotateTimeout == 0 {
		o.RotateTimeout = defaultRotateTimeout
	}
	if o.UserAgent == "" {
		o.UserAgent = "kubectl-k3s-token"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Observe == nil {
		o.Observe = func(Step) {}
	}
	return o
}

// handshake is the state of the steps as they go.
type handshake struct {
	opts   Options
	server URL
	wire   *wire

	bundle []byte
	caHash string
}

func (h *handshake) done(number int, status Status, detail string) {
	h.opts.Observe(Step{Number: number, Name: StepName(number), Status: status, Detail: detail})
}

func (h *handshake) fail(number int, err error) error {
	h.done(number, Failed, err.Error())
	return &StepError{Step: number, Err: err}
}

func (h *handshake) run(ctx context.Context) (*Session, error) {
	unverified := h.wire.unverified()
	defer unverified.CloseIdleConnections()
	bundle, err := h.wire.fetchBundle(ctx, unverified)
	if err != nil {
		return nil, h.fail(StepDownload, err)
	}
	h.bundle = bundle
	h.done(StepDownload, Passed, fmt.Sprintf("%d bytes from %s/cacerts", len(bundle), h.server))

	certs, err := token.ParseCertificates(bundle)
	switch {
	case errors.Is(err, token.ErrNoCertificates):
		return nil, h.fail(StepHash, fmt.Errorf("the answer to /cacerts holds no certificate in PEM: is %s a K3s server? %w", h.server, ErrNotSupervisor))
	case err != nil:
		return nil, h.fail(StepHash, errors.New("a certificate of the server's CA bundle cannot be parsed: look at server/tls/server-ca.crt on the server"))
	case len(certs) > maxCertificates:
		return nil, h.fail(StepHash, fmt.Errorf("%w: the CA bundle has %d certificates", ErrTooLarge, len(certs)))
	}
	h.caHash, err = token.CAHash(bundle, h.opts.Now())
	if err != nil {
		return nil, h.fail(StepHash, errors.New("the hash of the server's CA bundle cannot be computed: look at server/tls/server-ca.crt on the server"))
	}
	h.done(StepHash, Passed, h.caHash)

	trusted := certs
	switch {
	case h.opts.CAHash == h.caHash:
		trusted = vouchedFor(certs, h.caHash, h.opts.Now())
		detail := "the hashes are equal"
		if n := len(certs) - len(trusted); n > 0 {
			detail += fmt.Sprintf("; %d of the bundle's certificates are not below the hashed root, and are not trusted", n)
		}
		h.done(StepCompare, Passed, detail)
	case h.opts.CAHash != "":
		return h.bySystemRoots(ctx, StepCompare, &HashMismatchError{Token: h.opts.CAHash, Server: h.caHash})
	case !h.opts.TrustUnknownServer:
		return h.bySystemRoots(ctx, StepCompare, ErrUnverified)
	default:
		h.done(StepCompare, Skipped, "the token has no CA hash: the server's identity is not verified")
	}

	roots := x509.NewCertPool()
	for _, cert := range trusted {
		roots.AddCert(cert)
	}
	s := h.session(roots)
	leaf, err := h.validate(ctx, s.transport)
	if err != nil {
		s.Close()
		if certificate := new(tls.CertificateVerificationError); errors.As(err, &certificate) {
			return h.bySystemRoots(ctx, StepValidate, err)
		}
		return nil, h.fail(StepValidate, err)
	}
	return h.finish(ctx, s, leaf, "its chain leads to that CA, and it is for "+h.server.Host())
}

// bySystemRoots is K3s's way out where the CA hash does not lead to the server
// and the roots of the computer do. Otherwise the step failed, for the reason
// given.
func (h *handshake) bySystemRoots(ctx context.Context, step int, reason error) (*Session, error) {
	if h.opts.SystemRoots == nil {
		return nil, h.fail(step, reason)
	}
	s := h.session(h.opts.SystemRoots)
	leaf, err := h.validate(ctx, s.transport)
	if err != nil {
		s.Close()
		return nil, h.fail(step, reason)
	}
	if !h.opts.TrustSystemRoots {
		s.Close()
		return nil, h.fail(step, fmt.Errorf("%w; %w", reason, ErrPubliclyTrusted))
	}
	if step == StepCompare {
		h.done(StepCompare, Skipped, "K3s does not check the CA hash of a server that the host's CA bundle trusts")
	}
	return h.finish(ctx, s, leaf, fmt.Sprintf("it is trusted by the CA bundle of this computer, and is for %s; a node whose host does not trust it cannot join", h.server.Host()))
}

func (h *handshake) session(roots *x509.CertPool) *Session {
	return &Session{
		wire: h.wire, roots: roots, transport: h.wire.verified(roots, true),
		caHash: h.caHash, rotateTimeout: h.opts.RotateTimeout,
	}
}

// validate fetches the CA bundle once more, over a new connection for which
// the server had to show a certificate of the trusted CA, and returns that.
// The connection is kept for the credentials.
func (h *handshake) validate(ctx context.Context, transport *http.Transport) (*x509.Certificate, error) {
	a, err := h.wire.patient(ctx, transport, request{method: http.MethodGet, path: "/cacerts", limit: maxBundle})
	switch {
	case err != nil:
		return nil, err
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("the server answers to /cacerts with status %d now: try again", a.status)
	case !bytes.Equal(a.body, h.bundle):
		return nil, ErrBundleChanged
	}
	return a.tls.PeerCertificates[0], nil
}

// finish ends step 4, and finds out under which name the supervisor speaks:
// without that, there is nowhere to send credentials to.
func (h *handshake) finish(ctx context.Context, s *Session, leaf *x509.Certificate, detail string) (*Session, error) {
	h.done(StepValidate, Passed, detail)
	if err := s.identify(ctx, leaf); err != nil {
		s.Close()
		return nil, h.fail(StepCredentials, fmt.Errorf("nothing was sent: %w", err))
	}
	return s, nil
}

// fetchBundle downloads the CA bundle.
func (w *wire) fetchBundle(ctx context.Context, transport *http.Transport) ([]byte, error) {
	a, err := w.patient(ctx, transport, request{method: http.MethodGet, path: "/cacerts", limit: maxBundle})
	switch {
	case err != nil:
		return nil, err
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %s has no public /cacerts (status %d): a Kubernetes API of another kind, or RKE2's, whose supervisor has port %s", ErrNotSupervisor, w.server, a.status, RKE2.Port())
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("%s answers to /cacerts with status %d: is the server up?", w.server, a.status)
	case len(a.body) == 0:
		return nil, errors.New("the server's CA bundle is empty: look at server/tls/server-ca.crt on the server")
	}
	return a.body, nil
}

// identify asks for readyz under the one and the other name, without
// credentials, and sees who answers: the supervisor (doAuth in K3s's
// pkg/server/auth) says "forbidden", or "not authorized" as long as it
// cannot tell a good token from a bad one; what it does not know it hands to
// the Kubernetes API, which puts it differently.
func (s *Session) identify(ctx context.Context, leaf *x509.Certificate) error {
	candidates := []Distribution{K3s, RKE2}
	// Some releases of K3s answer under any name; the certificate that the
	// server makes for itself has the right one.
	if slices.Contains(leaf.Subject.Organization, string(RKE2)) {
		candidates = []Distribution{RKE2, K3s}
	}
	var busy error
	for _, d := range candidates {
		a, err := s.wire.patient(ctx, s.transport, request{method: http.MethodGet, path: d.path("readyz"), limit: maxAnswer})
		switch {
		case err != nil:
			return err
		case a.status == http.StatusForbidden && a.message() == "forbidden":
			s.distribution = d
			return nil
		case a.status == http.StatusTooManyRequests, a.status >= 500,
			a.status == http.StatusUnauthorized && a.message() == "not authorized":
			busy = fmt.Errorf("%s is busy or still starting (status %d): try again in a moment", s.wire.server, a.status)
		}
	}
	if busy != nil {
		return busy
	}
	return fmt.Errorf("%w, of K3s or RKE2, though it has a /cacerts: is %s a Rancher server or another proxy? give the K3s server's own address", ErrNotSupervisor, s.wire.server)
}
