package supervisor

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// maxCertificates is the longest CA bundle that is looked at. A cluster whose
// CA was rotated several times has some ten.
const maxCertificates = 100

// vouchedFor returns the certificates of a bundle that its CA hash speaks for.
//
// The hash of a bundle of several certificates is that of the root which the
// first one chains to: it stays the same whatever else the bundle holds. So
// here only what chains to the hashed root is trusted, which is stricter than
// K3s. The server's own certificate passes, since its issuer is the first of
// the bundle. In every other case the hash is of the literal bytes, and speaks
// for all.
func vouchedFor(certs []*x509.Certificate, hash string, now time.Time) []*x509.Certificate {
	root := -1
	for i := 1; i < len(certs); i++ {
		if digest := sha256.Sum256(certs[i].Raw); hex.EncodeToString(digest[:]) == hash {
			root = i
			break
		}
	}
	if root < 0 {
		return certs
	}
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(certs[root])
	for _, cert := range certs {
		others.AddCert(cert)
	}
	var vouched []*x509.Certificate
	for _, cert := range certs {
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: others, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err == nil {
			vouched = append(vouched, cert)
		}
	}
	return vouched
}
