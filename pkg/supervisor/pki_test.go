package supervisor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// authority is a CA of the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newCA makes a self-signed CA, or one below a parent.
func newCA(t testing.TB, name string, parent *authority) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	signer := &authority{cert: template, key: key}
	if parent != nil {
		signer = parent
	}
	return &authority{cert: sign(t, template, signer.cert, &key.PublicKey, signer.key), key: key}
}

// leaf describes a server certificate; the zero value is for 127.0.0.1.
type leaf struct {
	names        []string
	addresses    []string
	organization string
	expired      bool
	future       bool
}

// issue makes a server certificate.
func (a *authority) issue(t testing.TB, l leaf) tls.Certificate {
	t.Helper()
	key := newKey(t)
	if l.names == nil && l.addresses == nil {
		l.addresses = []string{"127.0.0.1"}
	}
	if l.organization == "" {
		l.organization = "k3s"
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: l.organization, Organization: []string{l.organization}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: l.names,
	}
	if l.expired {
		template.NotAfter = time.Now().Add(-time.Hour)
	}
	if l.future {
		template.NotBefore = time.Now().Add(time.Hour)
	}
	for _, address := range l.addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	cert := sign(t, template, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key}
}

// selfSigned makes a server certificate that is its own issuer and no CA.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "self"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
	}
	cert := sign(t, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bundle is what /cacerts shows of these CAs.
func bundle(cas ...*authority) []byte {
	var out bytes.Buffer
	for _, ca := range cas {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	}
	return out.Bytes()
}

func hashOf(t testing.TB, bundle []byte) string {
	t.Helper()
	hash, err := token.CAHash(bundle, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return hash
}
