package supervisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// compare decides whether to trust the server by its CA hash.
func (s *Session) compare(ctx context.Context) error {
	if s.opts.CAHash == s.caHash {
		return nil
	}
	trusted, _ := token.CAHash(s.opts.ContextCA(ctx), time.Now()) // "" if it is not known
	switch {
	case s.opts.CAHash != "":
		return errMismatch(s.opts.CAHash, s.caHash, trusted)
	case s.caHash == trusted:
		s.opts.CAHash = trusted
		return nil
	case s.opts.TrustUnknownServer:
		return errSkipped
	}
	return errUnverified
}

// trustedCAs returns the CAs that may have signed the server's certificate. K3s trusts
// the whole bundle. But the hash of several certificates does not vouch for all, and an
// attacker can append a CA. So the bundle must be that of the context's cluster, byte
// for byte.
func (s *Session) trustedCAs(ctx context.Context) (*x509.CertPool, error) {
	all, vouched := newPool(s.cas...), s.vouchedCAs()
	switch {
	case s.isSignedBy(vouched) || !s.isSignedBy(all):
		return vouched, nil
	case s.opts.CAHash == "" || bytes.Equal(s.opts.ContextCA(ctx), s.bundle):
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

// vouchedCAs returns the certificates of the bundle that its CA hash vouches for. The hash
// of several certificates is that of the root of the first, so these are the ones whose
// chain leads to this root. Otherwise the hash is that of the literal bytes.
func (s *Session) vouchedCAs() *x509.CertPool {
	all, vouched := newPool(s.cas...), newPool()
	root := slices.IndexFunc(s.cas, func(cert *x509.Certificate) bool {
		return fmt.Sprintf("%x", sha256.Sum256(cert.Raw)) == s.caHash
	})
	if root < 0 {
		return all
	}
	opts := x509.VerifyOptions{Roots: newPool(s.cas[root]), Intermediates: all, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, cert := range s.cas {
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

// nodeTrusts reports whether a node sends its token to the server in spite of the error,
// by K3s's rules (validateCAHash in pkg/clientaccess/token.go).
func (s *Session) nodeTrusts(err error) bool {
	withoutHash := errors.Is(err, errUnverified) && s.isSignedBy(newPool(s.cas...))
	return s.report.HostTrusts || withoutHash || errors.Is(err, errNotVouched)
}
