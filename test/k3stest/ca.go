package k3stest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// customCAs are the certificate authorities that K3s takes from its data folder
// if it finds them there at its first start.
var customCAs = []string{"client-ca", "server-ca", "request-header-ca", "etcd/peer-ca", "etcd/server-ca"}

// Authority is a certificate that can sign others, and its key.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// NewAuthority makes a CA, signed by parent or, without one, by itself. It is
// valid for a day from now on, and for the last days.
func NewAuthority(name string, parent *Authority) (*Authority, error) {
	return NewCertificate(parent, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
	})
}

// NewCertificate makes a certificate of the template, signed by parent or,
// without one, by itself. Serial number and times are set if they are missing.
func NewCertificate(parent *Authority, template *x509.Certificate) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, err
	}
	template.NotBefore = time.Now().Add(-48 * time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if parent == nil {
		parent = &Authority{Certificate: template, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Certificate, key.Public(), parent.Key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", template.Subject, err)
	}
	certificate, err := x509.ParseCertificate(der)
	return &Authority{Certificate: certificate, Key: key}, err
}

// PEM is the certificate as a PEM block.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// writeCustomCAs fills a K3s server's tls folder with CAs below a private root.
// Each bundle is the CA itself, the intermediate that signed it, and the root.
func writeCustomCAs(tlsDir string) error {
	root, err := NewAuthority("k3stest-root-ca", nil)
	if err != nil {
		return err
	}
	intermediate, err := NewAuthority("k3stest-intermediate-ca", root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(tlsDir, "etcd"), 0o700); err != nil {
		return fmt.Errorf("make the folder for custom CAs: %w", err)
	}
	for _, name := range customCAs {
		ca, err := NewAuthority("k3stest-"+filepath.Base(name), intermediate)
		if err != nil {
			return err
		}
		key, err := x509.MarshalECPrivateKey(ca.Key)
		if err != nil {
			return fmt.Errorf("encode the key of custom CA %s: %w", name, err)
		}
		for suffix, content := range map[string][]byte{
			".crt": append(append(ca.PEM(), intermediate.PEM()...), root.PEM()...),
			".key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
		} {
			if err := os.WriteFile(filepath.Join(tlsDir, name)+suffix, content, 0o600); err != nil {
				return fmt.Errorf("write custom CA %s: %w", name, err)
			}
		}
	}
	return nil
}
