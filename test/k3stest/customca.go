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

// authority is a CA certificate and its key.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// writeCustomCAs fills a K3s server's tls folder with CAs below a private root:
// each bundle is the CA itself, the intermediate that signed it, and the root.
func writeCustomCAs(tlsDir string) error {
	if err := os.MkdirAll(filepath.Join(tlsDir, "etcd"), 0o700); err != nil {
		return fmt.Errorf("make the folder for custom CAs: %w", err)
	}
	root, err := newAuthority("k3stest-root-ca", nil)
	if err != nil {
		return err
	}
	intermediate, err := newAuthority("k3stest-intermediate-ca", root)
	if err != nil {
		return err
	}
	for _, name := range customCAs {
		ca, err := newAuthority("k3stest-"+filepath.Base(name), intermediate)
		if err != nil {
			return err
		}
		var bundle []byte
		for _, member := range []*authority{ca, intermediate, root} {
			bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: member.certificate.Raw})...)
		}
		key, err := x509.MarshalECPrivateKey(ca.key)
		if err != nil {
			return fmt.Errorf("encode the key of custom CA %s: %w", name, err)
		}
		path := filepath.Join(tlsDir, filepath.FromSlash(name))
		if err := os.WriteFile(path+".crt", bundle, 0o600); err != nil {
			return fmt.Errorf("write custom CA %s: %w", name, err)
		}
		if err := os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}), 0o600); err != nil {
			return fmt.Errorf("write the key of custom CA %s: %w", name, err)
		}
	}
	return nil
}

// newAuthority makes a CA, signed by parent or, without one, by itself.
func newAuthority(name string, parent *authority) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make the serial number of %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(30 * 24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	ca := &authority{key: key}
	if parent == nil {
		parent = &authority{certificate: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, key.Public(), parent.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	if ca.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read %s back: %w", name, err)
	}
	return ca, nil
}
