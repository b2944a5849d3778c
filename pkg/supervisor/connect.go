package supervisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"time"

	certutil "k8s.io/client-go/util/cert"

	"github.com/k3s-token/kubectl-k3s-token/pkg/hint"
	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// Session is a connection to a server that has proved to be that of a token. It is safe
// for concurrent use.
type Session struct {
	*client
	token    token.Token
	verified *http.Client // that verifies the server
	report   Report

	bundle       []byte // from /cacerts
	cas          []*x509.Certificate
	caHash       string
	certificates []*x509.Certificate // of the server, when it showed the bundle
}

// Connect performs the first four steps of TLS bootstrapping as a joining node
// does (setAndValidateServer and getCACerts in K3s's pkg/clientaccess), but as a client
// of its own. It sends no credentials.
func Connect(ctx context.Context, server URL, t token.Token, opts Options) (*Session, error) {
	s := &Session{client: newClient(server, "", opts), token: t}
	if err := s.setProxy(); err != nil {
		return nil, err
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// CAHash returns the hash of the CA that the server shows.
func (s *Session) CAHash() string { return s.caHash }

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

// download fetches the CA bundle from a server that is not trusted yet.
func (s *Session) download(ctx context.Context) error {
	r, err := s.fetchBundle(ctx, s.serverName())
	switch {
	case err == nil || s.role == "":
	case !s.Remote().IsValid(): // no connection
		r, err = s.downloadByProxy(ctx, err)
	case s.role == Agent:
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

func (s *Session) fetchBundle(ctx context.Context, name string) (response, error) {
	unverified := s.httpClient(&tls.Config{InsecureSkipVerify: true, ServerName: name}) //nolint:gosec // later steps check the bundle
	return s.cacerts(ctx, unverified)
}

func (s *Session) hash(context.Context) (err error) {
	if s.caHash, err = token.CAHash(s.bundle, time.Now()); err != nil {
		return hint.New("not a K3s supervisor: /cacerts has no valid certificates", noProxy)
	}
	s.cas, _ = certutil.ParseCertsPEM(s.bundle) // CAHash has parsed them
	return nil
}

// compare decides whether to trust the server by its CA hash.
func (s *Session) compare(ctx context.Context) error {
	if s.token.CAHash == s.caHash {
		return nil
	}
	trusted, _ := token.CAHash(s.opts.ContextCA(ctx), time.Now()) // "" if it is not known
	switch {
	case s.token.CAHash != "":
		return errMismatch(s.token.CAHash, s.caHash, trusted)
	case s.caHash == trusted:
		s.token.CAHash = trusted
		return nil
	case s.opts.TrustUnknownServer:
		return errSkipped
	}
	return errUnverified
}

// validate fetches the CA bundle again, from a server that must have a
// certificate of a trusted CA. K3s writes the name of the distribution into
// the certificate's organization (pkg/cluster/https.go).
func (s *Session) validate(ctx context.Context) error {
	roots, err := s.trustedCAs(ctx)
	if err != nil {
		return err
	}
	s.verified = s.httpClient(&tls.Config{RootCAs: roots, ServerName: s.serverName()})
	r, err := s.cacerts(ctx, s.verified)
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

// trustedCAs returns the CAs that may have signed the server's certificate. K3s trusts
// the whole bundle. But the hash of several certificates does not vouch for all, and an
// attacker can append a CA. So the bundle must be that of the context's cluster, byte
// for byte.
func (s *Session) trustedCAs(ctx context.Context) (*x509.CertPool, error) {
	all, vouched := newPool(s.cas...), vouchedCAs(s.cas, s.caHash)
	switch {
	case s.isSignedBy(vouched) || !s.isSignedBy(all):
		return vouched, nil
	case s.token.CAHash == "" || bytes.Equal(s.opts.ContextCA(ctx), s.bundle):
		return all, nil
	}
	return nil, errNotVouched
}

func newPool(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}

// vouchedCAs returns the CAs of a bundle that its CA hash vouches for. The hash of several
// certificates is that of the root of the first, so these are the ones whose chain leads
// to this root. Otherwise the hash is that of the literal bytes.
func vouchedCAs(cas []*x509.Certificate, hash string) *x509.CertPool {
	all, vouched := newPool(cas...), newPool()
	root := slices.IndexFunc(cas, func(cert *x509.Certificate) bool {
		return fmt.Sprintf("%x", sha256.Sum256(cert.Raw)) == hash
	})
	if root < 0 {
		return all
	}
	opts := x509.VerifyOptions{Roots: newPool(cas[root]), Intermediates: all, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, cert := range cas {
		if _, err := cert.Verify(opts); err == nil {
			vouched.AddCert(cert)
		}
	}
	return vouched
}

// isSignedBy reports whether the server's certificate is valid and signed by one of the CAs,
// or of this machine's if cas is nil.
func (s *Session) isSignedBy(cas *x509.CertPool) bool {
	opts := x509.VerifyOptions{Roots: cas, DNSName: s.serverName(), Intermediates: newPool(s.certificates[1:]...)}
	_, err := s.certificates[0].Verify(opts)
	return err == nil
}

// identify checks that a supervisor answers to readyz. Without credentials it
// answers "forbidden" (doAuth in K3s's pkg/server/auth). A Kubernetes API uses
// other words, and so does a supervisor that is starting.
func (s *Session) identify(ctx context.Context) error {
	r, err := s.get(ctx, s.verified, s.path("readyz"), "")
	if err == nil && (r.status != http.StatusForbidden || r.message() != "forbidden") {
		text := fmt.Sprintf("not a running K3s supervisor: readyz answers with status %d", r.status)
		err = hint.New(text, "wait if it is starting; otherwise "+noProxy)
	}
	return err
}

// path returns the path of a resource of the supervisor, such as readyz.
func (s *Session) path(resource string) string {
	return "/v1-" + string(s.report.Distribution) + "/" + resource
}

// authorization returns the header for the token in a role. A node sends the user
// name of its role whatever the token says, and none with a bootstrap token.
func (s *Session) authorization(role Role) string {
	if s.token.ID != "" {
		return "Bearer " + s.token.WithCAHash("").Reveal()
	}
	user := token.UserNode
	if role == Server {
		user = token.UserServer
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+s.token.Secret.Reveal()))
}
