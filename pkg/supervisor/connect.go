// Package supervisor is a client of the K3s supervisor, the service that
// joining nodes talk to. It establishes which server answers (Connect), finds
// out what a token is good for (Session.Probe, Verify), and replaces the server
// token (Session.Rotate).
//
// Only a Session sends credentials, and a Session exists only once the server
// has proved its identity.
package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Options say whom to trust and how to connect. The zero value trusts nobody.
type Options struct {
	// CAHash is the CA hash of the token. Every other server is refused.
	CAHash string
	// ContextCAHash is the CA hash of a cluster that the user trusts. If CAHash
	// is empty, its servers are trusted.
	ContextCAHash string
	// TrustUnknownServer accepts any server if CAHash is empty, as a joining
	// node does with a token in short format.
	TrustUnknownServer bool

	// Proxy is as in http.Transport, and called once. Nil: no proxy.
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent names the client in the server's logs.
	UserAgent string
	// Timeout bounds each request; a rotation has three times as long. Zero: ten
	// seconds, as in K3s.
	Timeout time.Duration
	// Backoff paces repeated requests. Zero: four attempts, two seconds apart.
	Backoff wait.Backoff
}

// Session is a connection to a server that has proved its identity. It is safe
// for concurrent use. Close it after use.
type Session struct {
	server       URL
	dialer       pinnedDialer
	proxy        *url.URL
	client       *client
	caHash       string
	distribution Distribution
}

// CAHash returns the hash of the CA that the server shows.
func (s *Session) CAHash() string { return s.caHash }

// Remote returns the IP address and port of all connections of the session:
// one server of those that a DNS name stands for, or a proxy.
func (s *Session) Remote() string { return s.dialer.remote() }

// Proxied reports whether the session goes through a proxy. Remote is then the
// address of the proxy, and only the proxy knows the server's.
func (s *Session) Proxied() bool { return s.proxy != nil }

// Close closes idle connections.
func (s *Session) Close() { utilnet.CloseIdleConnectionsFor(s.client.Transport) }

// Connect performs the first four steps of TLS bootstrapping as a joining node
// does (setAndValidateServer and getCACerts in K3s's pkg/clientaccess). It sends
// no credentials.
func Connect(ctx context.Context, server URL, opts Options) (*Session, error) {
	return connect(ctx, server, opts, &Report{})
}

// connect is Connect, and adds the steps to a report.
func connect(ctx context.Context, server URL, opts Options, report *Report) (*Session, error) {
	opts.Timeout = cmp.Or(opts.Timeout, 10*time.Second)
	if opts.Backoff.Steps == 0 {
		opts.Backoff = wait.Backoff{Steps: 4, Duration: 2 * time.Second}
	}
	s := &Session{server: server, dialer: pinnedDialer{Dialer: net.Dialer{Timeout: opts.Timeout}}}
	bundle, err := s.download(ctx, opts)
	if err := report.add(Passed, fmt.Sprintf("%d bytes from %s/cacerts", len(bundle), server), err); err != nil {
		return nil, err
	}
	s.caHash, err = token.CAHash(bundle, time.Now())
	if err != nil {
		err = newError("not a K3s supervisor: /cacerts has no valid certificates", noProxy)
	}
	if err := report.add(Passed, s.caHash, err); err != nil {
		return nil, err
	}
	status, detail, err := opts.compare(s.caHash)
	if err := report.add(status, detail, err); err != nil {
		return nil, err
	}
	s.client = s.newClient(opts, &tls.Config{RootCAs: trustedBy(s.caHash, bundle)})
	err = s.validate(ctx, bundle)
	if err := report.add(Passed, "its chain leads to that CA, and it is for "+server.host, err); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.identify(ctx); err != nil {
		s.Close()
		return nil, report.add(Failed, "", err)
	}
	return s, nil
}

// download fetches the CA bundle from a server that is not trusted yet.
func (s *Session) download(ctx context.Context, opts Options) ([]byte, error) {
	if opts.Proxy != nil {
		var err error
		req := &http.Request{URL: &url.URL{Scheme: "https", Host: s.server.hostPort()}}
		if s.proxy, err = opts.Proxy(req); err != nil {
			return nil, newError("the proxy setting is malformed", checkProxy) // err may quote a password
		}
	}
	unverified := s.newClient(opts, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // later steps check the bundle
	defer utilnet.CloseIdleConnectionsFor(unverified.Transport)
	r, err := unverified.cacerts(ctx)
	return r.body, err
}

// compare decides whether to trust a server by its CA hash.
func (o Options) compare(server string) (status Status, detail string, err error) {
	switch {
	case o.CAHash == server:
		return Passed, "the hashes are equal", nil
	case o.CAHash != "":
		return Failed, "", &HashMismatchError{Token: o.CAHash, Server: server}
	case o.ContextCAHash == server:
		return Passed, "the token has none; the server's is that of the context's cluster", nil
	case o.TrustUnknownServer:
		return Skipped, "the token has no CA hash: the server's identity is not verified", nil
	}
	return Failed, "", ErrUnverified
}

// trustedBy returns the certificates of a bundle that its CA hash vouches for.
//
// The hash of several certificates is that of the root of the first, whatever
// else the bundle holds. So only what chains to this root is trusted, which is
// stricter than K3s: somebody may have appended a CA. Otherwise the hash is that
// of the literal bytes, and vouches for all.
func trustedBy(hash string, bundle []byte) *x509.CertPool {
	certs, _ := certutil.ParseCertsPEM(bundle) // CAHash has parsed them
	all, trusted := x509.NewCertPool(), x509.NewCertPool()
	all.AppendCertsFromPEM(bundle)
	root := slices.IndexFunc(certs, func(cert *x509.Certificate) bool {
		return fmt.Sprintf("%x", sha256.Sum256(cert.Raw)) == hash
	})
	if root < 0 {
		return all
	}
	roots := x509.NewCertPool()
	roots.AddCert(certs[root])
	for _, cert := range certs {
		opts := x509.VerifyOptions{Roots: roots, Intermediates: all, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		if _, err := cert.Verify(opts); err == nil {
			trusted.AddCert(cert)
		}
	}
	return trusted
}

// validate fetches the CA bundle again, from a server that must have a
// certificate of the trusted CA. K3s writes the name of the distribution into
// the certificate's organization (pkg/cluster/https.go).
func (s *Session) validate(ctx context.Context, bundle []byte) error {
	r, err := s.client.cacerts(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(r.body, bundle) {
		return newError("the server's CA bundle has changed since a moment ago", "use the address of one server, not of several")
	}
	s.distribution = K3s
	if slices.Contains(r.certificate.Subject.Organization, string(RKE2)) {
		s.distribution = RKE2
	}
	return nil
}

// path returns the path of a resource of the supervisor, such as readyz.
func (s *Session) path(resource string) string {
	return "/v1-" + string(s.distribution) + "/" + resource
}

// identify checks that a supervisor answers to readyz. Without credentials it
// answers "forbidden" (doAuth in K3s's pkg/server/auth). A Kubernetes API uses
// other words, and so does a supervisor that is starting.
func (s *Session) identify(ctx context.Context) error {
	r, err := s.client.get(ctx, s.path("readyz"), "")
	if err == nil && (r.status != http.StatusForbidden || r.message() != "forbidden") {
		err = newError(fmt.Sprintf("not a running K3s supervisor: readyz answers with status %d", r.status), "wait if it is starting; otherwise "+noProxy)
	}
	return err
}
