package supervisor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// identity is a certificate with its key.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newCA makes a CA below a parent, or a self-signed one.
func newCA(t *testing.T, parent *identity) *identity {
	return newIdentity(t, parent, &x509.Certificate{
		Subject: pkix.Name{CommonName: "k3s-server-ca"}, KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	})
}

// issue makes a server certificate for 127.0.0.1, with changes. Without a CA it
// is self-signed.
func issue(t *testing.T, ca *identity, changes ...func(*x509.Certificate)) tls.Certificate {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "k3s", Organization: []string{"k3s"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, change := range changes {
		change(template)
	}
	leaf := newIdentity(t, ca, template)
	return tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}
}

func newIdentity(t *testing.T, parent *identity, template *x509.Certificate) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent = &identity{template, key}
	}
	for limit, offset := range map[*time.Time]time.Duration{&template.NotBefore: -time.Hour, &template.NotAfter: time.Hour} {
		if limit.IsZero() {
			*limit = time.Now().Add(offset)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{cert, key}
}

// bundle is what /cacerts shows of these CAs.
func bundle(cas ...*identity) []byte {
	var out []byte
	for _, ca := range cas {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})...)
	}
	return out
}

func hashOf(t *testing.T, bundle []byte) string {
	t.Helper()
	hash, err := token.CAHash(bundle, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return hash
}
