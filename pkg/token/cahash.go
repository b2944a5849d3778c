package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// ErrNoCertificates is returned for data without a PEM certificate.
var ErrNoCertificates = errors.New("no PEM certificate found")

// CAHash returns the hash that a secure token carries for a bundle of CA
// certificates: the rule is hashCA's of K3s (pkg/clientaccess/token.go).
//
// One certificate: the SHA-256 of the bytes as they are, so that a comment or
// a missing final newline makes another hash. Several: the SHA-256 of the
// root certificate (DER) that the first one chains to, so that the hash
// outlives the renewal of what is below the root; where the first chains to
// none of the others at that time, the bytes as they are.
func CAHash(bundle []byte, now time.Time) (string, error) {
	certs, err := ParseCertificates(bundle)
	if err != nil {
		return "", err
	}
	hashed := bundle
	if len(certs) > 1 {
		if root := rootOf(certs[0], certs[1:], now); root != nil {
			hashed = root.Raw
		}
	}
	digest := sha256.Sum256(hashed)
	return hex.EncodeToString(digest[:]), nil
}

// rootOf returns the root among the others that cert chains to, or nil.
func rootOf(cert *x509.Certificate, others []*x509.Certificate, now time.Time) *x509.Certificate {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, other := range others {
		if len(other.AuthorityKeyId) == 0 || bytes.Equal(other.AuthorityKeyId, other.SubjectKeyId) {
			roots.AddCert(other)
		} else {
			intermediates.AddCert(other)
		}
	}
	chains, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now})
	if err != nil {
		return nil
	}
	return chains[0][len(chains[0])-1]
}

// ParseCertificates returns the certificates of a PEM bundle as the Kubernetes
// client library reads it: other blocks, and blocks with headers, are passed
// over. It returns ErrNoCertificates where there is none.
func ParseCertificates(bundle []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle cannot be parsed: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, ErrNoCertificates
	}
	return certs, nil
}

// SameCertificates tells whether two bundles hold the same certificates in the
// same order, however they are wrapped.
func SameCertificates(a, b []*x509.Certificate) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// RepairPEM undoes what editors, copy and paste, and templates do to a bundle:
// where it differs from canonical PEM in white space and line ends alone, the
// canonical form is returned, which is how K3s writes its CA file; else the
// bundle as it is, since a comment counts in the hash.
func RepairPEM(bundle []byte) []byte {
	certs, err := ParseCertificates(bundle)
	if err != nil {
		return bundle
	}
	var canonical bytes.Buffer
	for _, cert := range certs {
		// Writing to a bytes.Buffer does not fail.
		_ = pem.Encode(&canonical, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	if !bytes.Equal(withoutSpace(bundle), withoutSpace(canonical.Bytes())) {
		return bundle
	}
	return canonical.Bytes()
}

func withoutSpace(b []byte) []byte {
	return bytes.Join(bytes.Fields(b), nil)
}
