// Package supervisor is a client of the K3s supervisor, the service that
// joining nodes talk to. Connect verifies the identity of a server, Verify finds
// out whether a node can join, and Session.Rotate replaces the server token.
//
// Only a Session sends credentials, and a Session exists only once the server
// has proved its identity.
package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Role is that of a joining node, which decides how it connects.
//
// An agent connects through a load balancer of its own on 127.0.0.1, or ::1
// (createProxyAndValidateToken in K3s's pkg/agent/run.go). So it checks the server's
// certificate for that address, sends no server name (SNI), and uses no proxy. A server
// connects to the URL itself (shouldBootstrapLoad in pkg/cluster/bootstrap.go). It uses
// a proxy only if its host trusts the server (getCACerts in pkg/clientaccess/token.go).
type Role string

// The roles.
const (
	Agent  Role = "agent"
	Server Role = "server"
)

// Options say whom to trust and how to connect. The zero value trusts nobody.
type Options struct {
	// CAHash is the CA hash of the token. Every other server is refused. Verify takes
	// the one of its token.
	CAHash string
	// ContextCA returns the CA bundle of a cluster that the user trusts, or nil. Its
	// servers are trusted if CAHash is empty. It is called only if CAHash does not decide.
	ContextCA func(context.Context) []byte
	// TrustUnknownServer accepts any server if CAHash is empty, as a joining
	// node does with a token in short format.
	TrustUnknownServer bool

	// Role connects as a node that joins in this role. Empty: as a client of its own.
	Role Role
	// ServerName is the name in the server's certificate. Empty: the URL's host.
	// Nodes do not use it.
	ServerName string
	// Proxy is as in http.Transport, and called once. Nil: no proxy. In a role it is
	// used only if the server cannot be reached without it.
	Proxy func(*http.Request) (*url.URL, error)
	// ProxyHint is advice for a proxy that does not connect.
	ProxyHint string
	// Timeout bounds each request; a rotation has three times as long. Zero: ten
	// seconds, as in K3s.
	Timeout time.Duration
	// Backoff paces repeated requests. Zero: four attempts, two seconds apart.
	Backoff wait.Backoff
}

// Session is a connection to a server that has proved its identity. It is safe
// for concurrent use.
type Session struct {
	server URL
	opts   Options
	dialer pinnedDialer
	proxy  *url.URL
	client *http.Client // that verifies the server
	report Report

	bundle       []byte // from /cacerts
	cas          []*x509.Certificate
	caHash       string
	certificates []*x509.Certificate // of the server, when it showed the bundle
}

// Connect performs the first four steps of TLS bootstrapping as a joining node
// does (setAndValidateServer and getCACerts in K3s's pkg/clientaccess). It sends
// no credentials.
func Connect(ctx context.Context, server URL, opts Options) (*Session, error) {
	s := newSession(server, opts)
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func newSession(server URL, opts Options) *Session {
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Second)
	if opts.Backoff.Steps == 0 {
		opts.Backoff = wait.Backoff{Steps: 4, Duration: 2 * time.Second}
	}
	if opts.ContextCA == nil {
		opts.ContextCA = func(context.Context) []byte { return nil }
	}
	return &Session{server: server, opts: opts}
}

// CAHash returns the hash of the CA that the server shows.
func (s *Session) CAHash() string { return s.caHash }

// Remote returns the IP address of all connections of the session, which is one of the
// servers behind a DNS name. It is the zero value before the first one, and through a
// proxy, since only the proxy knows it.
func (s *Session) Remote() netip.Addr {
	if s.proxy != nil {
		return netip.Addr{}
	}
	address, _ := s.dialer.pinned.Load().(string)
	remote, _ := netip.ParseAddrPort(address)
	return remote.Addr()
}

func (s *Session) connect(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.download, s.hash, s.compare, s.validate} {
		if err := s.report.add(step(ctx)); err != nil {
			return err
		}
	}
	s.report.CAHash = s.caHash
	if err := s.identify(ctx); err != nil {
		return s.report.add(err)
	}
	return nil
}

// serverName returns the name or address that the server's certificate must have.
func (s *Session) serverName() string {
	switch addr, _ := netip.ParseAddr(s.server.host); {
	case s.opts.Role == Server:
		return s.server.host
	case s.opts.Role == "":
		return cmp.Or(s.opts.ServerName, s.server.host)
	case addr.Is6():
		return "::1"
	}
	return "127.0.0.1"
}

// download fetches the CA bundle from a server that is not trusted yet.
func (s *Session) download(ctx context.Context) error {
	if s.opts.Role == "" {
		if err := s.setProxy(); err != nil {
			return err
		}
	}
	r, err := s.fetchBundle(ctx, s.serverName())
	switch {
	case err == nil || s.opts.Role == "":
	case !s.Remote().IsValid(): // no connection
		r, err = s.downloadByProxy(ctx, err)
	case s.opts.Role == Agent:
		if _, named := s.fetchBundle(ctx, s.server.host); named == nil {
			err = hint.New("the server answers only to clients that name it (SNI)",
				"agents send no server name: let the load balancer pass this port through to the servers")
		}
	}
	if err != nil {
		return err
	}
	s.bundle, s.certificates = r.body, r.certificates
	s.report.HostTrusts = s.isSignedBy(nil)
	return nil
}

// downloadByProxy fetches the CA bundle through the proxy, if there is one. direct is why
// a node, which uses none, does not reach the server.
func (s *Session) downloadByProxy(ctx context.Context, direct error) (r response, err error) {
	if err = s.setProxy(); err == nil {
		if s.proxy == nil {
			return r, direct
		}
		r, err = s.fetchBundle(ctx, s.serverName())
	}
	if err != nil {
		err = fmt.Errorf("%v; %w", direct, err) //nolint:errorlint // the advice is about the proxy
	}
	return r, err
}

// setProxy finds out which proxy leads to the server.
func (s *Session) setProxy() (err error) {
	if s.opts.Proxy == nil {
		return nil
	}
	s.proxy, err = s.opts.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: s.server.hostPort()}})
	if err != nil { // it may quote a password
		return hint.New("the proxy setting is malformed", s.opts.ProxyHint)
	}
	return nil
}

func (s *Session) fetchBundle(ctx context.Context, name string) (response, error) {
	unverified := s.newClient(&tls.Config{InsecureSkipVerify: true, ServerName: name}) //nolint:gosec // later steps check the bundle
	return s.cacerts(ctx, unverified)
}

func (s *Session) hash(context.Context) (err error) {
	if s.caHash, err = token.CAHash(s.bundle, time.Now()); err != nil {
		return hint.New("not a K3s supervisor: /cacerts has no valid certificates", noProxy)
	}
	s.cas, _ = certutil.ParseCertsPEM(s.bundle) // CAHash has parsed them
	return nil
}

// validate fetches the CA bundle again, from a server that must have a
// certificate of a trusted CA. K3s writes the name of the distribution into
// the certificate's organization (pkg/cluster/https.go).
func (s *Session) validate(ctx context.Context) error {
	roots, err := s.trustedCAs(ctx)
	if err != nil {
		return err
	}
	s.client = s.newClient(&tls.Config{RootCAs: roots, ServerName: s.serverName()})
	r, err := s.cacerts(ctx, s.client)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(r.body, s.bundle):
		return hint.New("the server's CA bundle has changed since a moment ago", "use the address of one server, not of several")
	}
	s.report.Distribution = K3s
	if slices.Contains(r.certificates[0].Subject.Organization, string(RKE2)) {
		s.report.Distribution = RKE2
	}
	return nil
}

// path returns the path of a resource of the supervisor, such as readyz.
func (s *Session) path(resource string) string {
	return "/v1-" + string(s.report.Distribution) + "/" + resource
}

// identify checks that a supervisor answers to readyz. Without credentials it
// answers "forbidden" (doAuth in K3s's pkg/server/auth). A Kubernetes API uses
// other words, and so does a supervisor that is starting.
func (s *Session) identify(ctx context.Context) error {
	r, err := s.get(ctx, s.client, s.path("readyz"), "")
	if err == nil && (r.status != http.StatusForbidden || r.message() != "forbidden") {
		text := fmt.Sprintf("not a running K3s supervisor: readyz answers with status %d", r.status)
		err = hint.New(text, "wait if it is starting; otherwise "+noProxy)
	}
	return err
}
