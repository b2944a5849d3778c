package token

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// CAHash returns the CA hash of a token in secure format for a PEM bundle of CA
// certificates. The rule is that of K3s (hashCA in pkg/clientaccess/token.go).
//
// For one certificate it is the SHA-256 of the bytes of the bundle, so that a
// comment or a missing final newline makes another hash. For several it is the
// SHA-256 of the root (DER) that the first certificate chains to at the given
// time. If the first chains to none of the others, it is that of the bytes again.
func CAHash(bundle []byte, now time.Time) (string, error) {
	certs, err := parseCertificates(bundle)
	if err != nil {
		return "", err
	}
	hashed := bundle
	if root := rootOf(certs[0], certs[1:], now); root != nil {
		hashed = root.Raw
	}
	return fmt.Sprintf("%x", sha256.Sum256(hashed)), nil
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

// parseCertificates skips the same blocks as ParseCertsPEM of client-go, which
// K3s uses.
func parseCertificates(bundle []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate found")
	}
	return certs, nil
}
