package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// theOracle is K3s's own code, which judges the plugin's.
func theOracle(tb testing.TB) *k3stest.Oracle {
	tb.Helper()
	o, err := oracle()
	if err != nil {
		tb.Skip(err)
	}
	return o
}

// authority is a certificate that can sign others, and its key.
type authority struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// newAuthority makes a CA, signed by parent or, without one, by itself.
func newAuthority(tb testing.TB, parent *authority, end time.Time) *authority {
	tb.Helper()
	key, keyErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: rand.Text()}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = &authority{template, key}
	}
	der, signErr := x509.CreateCertificate(rand.Reader, template, parent.Certificate, key.Public(), parent.key)
	made, err := x509.ParseCertificate(der)
	if err := errors.Join(keyErr, signErr, err); err != nil {
		tb.Fatal(err)
	}
	return &authority{made, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw})
}

// bundles are CA files as people have them, and as they should not.
func bundles(tb testing.TB) map[string][]byte {
	tb.Helper()
	future, past := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	root := newAuthority(tb, nil, future)
	intermediate := newAuthority(tb, root, future)
	leaf, expired := newAuthority(tb, intermediate, future), newAuthority(tb, intermediate, past)
	one, other := root.pem(), newAuthority(tb, nil, future).pem()
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	noDER := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")})
	return map[string][]byte{
		"one":                     one,
		"one without its newline": bytes.TrimSpace(one),
		"one with CRLF":           bytes.ReplaceAll(one, []byte("\n"), []byte("\r\n")),
		"one with a comment":      join([]byte("# our CA\n"), one),
		"one and a key":           join(one, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}})),
		"one with headers":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: root.Raw}),
		"one indented":            []byte("  " + strings.ReplaceAll(string(one), "\n", "\n  ")),
		"chain":                   join(leaf.pem(), intermediate.pem(), one),
		"chain, root first":       join(one, intermediate.pem(), leaf.pem()),
		"chain without its root":  join(leaf.pem(), intermediate.pem()),
		"chain, leaf expired":     join(expired.pem(), intermediate.pem(), one),
		"two roots":               join(one, other),
		"the same twice":          join(one, one),
		"empty":                   nil,
		"no PEM":                  []byte("no PEM at all"),
		"no certificate inside":   noDER,
		"one, then none":          join(one, noDER),
	}
}

// FuzzCAHashIsK3sOwn compares the hashes of bundles, which a plain run of the
// tests takes as they are.
func FuzzCAHashIsK3sOwn(f *testing.F) {
	oracle := theOracle(f)
	for _, bundle := range bundles(f) {
		f.Add(bundle)
	}
	f.Fuzz(func(t *testing.T, bundle []byte) {
		want, err := oracle.Hash(bundle)
		if err != nil {
			t.Fatal(err)
		}
		got, refused := token.CAHash(bundle, time.Now())
		if (refused != nil) != (want.Error != "") || got != want.Hash {
			t.Errorf("CAHash returns %q (error: %v), K3s %+v, for\n%q", got, refused, want, bundle)
		}
	})
}

// TestParseReadsTokensAsK3sDoes compares how the two read tokens.
func TestParseReadsTokensAsK3sDoes(t *testing.T) {
	oracle := theOracle(t)
	hash := strings.Repeat("0a", 32)
	for _, text := range []string{
		"abcdef.0123456789abcdef", "K10" + hash + "::abcdef.0123456789abcdef",
		"K10" + hash + "::server:pw", "K10" + hash + "::node:pw", "K10" + hash + "::server:p:w", "K10" + hash + "::server:p::w",
		"K10" + hash + ":::pw", "K10" + hash + "::pw", "K10" + hash + "::server:", "K10" + hash + "::", "K10" + hash,
		"K10::server:pw", "K10server:pw", "K10abcdef.0123456789abcdef", "K10", "K10:", "K10::", "K10:::", "K10::::",
		"K10" + hash[1:] + "::server:pw", "K10" + hash + "0::server:pw",
		"pw", "server:pw", "a::b", "Abcdef.0123456789abcdef", "abcdef.0123456789abcdef\n", " pw ", "",
	} {
		want, err := oracle.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, refused := token.Parse(text)
		ours := k3stest.Answer{ID: got.ID, Username: got.User, Password: got.Secret.Reveal()}
		if got.Type() == token.Bootstrap {
			ours.Password, ours.Secret = "", got.Secret.Reveal()
		}
		if (refused != nil) != (want.Error != "") || refused == nil && ours != want {
			t.Errorf("Parse(%q) = %+v (error: %v), K3s reads %+v", text, ours, refused, want)
		}
	}
}
