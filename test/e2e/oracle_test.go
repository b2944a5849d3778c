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
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
	"github.com/k3s-token/kubectl-k3s-token/test/k3stest"
)

// authority is a certificate that can sign others.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority returns a CA below parent, or a root where there is none.
func newAuthority(tb testing.TB, name string, parent *authority, notAfter time.Time) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	self := &authority{cert: template, key: key}
	if parent == nil {
		parent = self
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		tb.Fatal(err)
	}
	if self.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return self
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// bundles are CA files as people have them, and as they should not.
func bundles(tb testing.TB) map[string][]byte {
	tb.Helper()
	future, past := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	root := newAuthority(tb, "root", nil, future)
	intermediate := newAuthority(tb, "intermediate", root, future)
	leaf := newAuthority(tb, "leaf", intermediate, future)
	expired := newAuthority(tb, "expired", intermediate, past)
	other := newAuthority(tb, "other", nil, future)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	return map[string][]byte{
		"one":                     root.pem(),
		"one without its newline": bytes.TrimSpace(root.pem()),
		"one with CRLF":           bytes.ReplaceAll(root.pem(), []byte("\n"), []byte("\r\n")),
		"one with a comment":      join([]byte("# our CA\n"), root.pem()),
		"one and a key":           join(root.pem(), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}})),
		"one with headers":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: root.cert.Raw}),
		"chain":                   join(leaf.pem(), intermediate.pem(), root.pem()),
		"chain, root first":       join(root.pem(), intermediate.pem(), leaf.pem()),
		"chain without its root":  join(leaf.pem(), intermediate.pem()),
		"chain, leaf expired":     join(expired.pem(), intermediate.pem(), root.pem()),
		"two roots":               join(root.pem(), other.pem()),
		"the same twice":          join(root.pem(), root.pem()),
		"empty":                   nil,
		"no PEM":                  []byte("no PEM at all"),
		"no certificate inside":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")}),
		"one, then none":          join(root.pem(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")})),
		"one of it indented":      []byte("  " + strings.ReplaceAll(string(root.pem()), "\n", "\n  ")),
	}
}

// agree fails the test where the plugin and K3s hash a bundle to different ends.
func agree(tb testing.TB, oracle *k3stest.Oracle, bundle []byte) {
	tb.Helper()
	want, wantErr := oracle.Hash(bundle)
	var verdict k3stest.OracleError
	if wantErr != nil && !errors.As(wantErr, &verdict) {
		tb.Fatal(wantErr)
	}
	got, gotErr := token.CAHash(bundle, time.Now())
	if (gotErr != nil) != (wantErr != nil) || got != want {
		tb.Errorf("CAHash returns %q (error: %v), K3s %q (error: %v), for\n%q", got, gotErr, want, wantErr, bundle)
	}
}

func TestCAHashIsK3sOwn(t *testing.T) {
	requireBuilt(t, "k3s")
	oracle, err := shared.tokenOracle()
	if err != nil {
		t.Fatal(err)
	}
	for name, bundle := range bundles(t) {
		t.Run(name, func(t *testing.T) { agree(t, oracle, bundle) })
	}
}

// TestCAHashIsK3sOwnForBundlesAtRandom mixes certificates, damage and filling.
func TestCAHashIsK3sOwnForBundlesAtRandom(t *testing.T) {
	requireBuilt(t, "k3s")
	oracle, err := shared.tokenOracle()
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	var pieces [][]byte
	for _, bundle := range bundles(t) {
		pieces = append(pieces, bundle)
	}
	for range 500 {
		var bundle []byte
		for range 1 + random.IntN(4) {
			bundle = append(bundle, pieces[random.IntN(len(pieces))]...)
		}
		if random.IntN(3) == 0 && len(bundle) > 0 {
			bundle[random.IntN(len(bundle))] = byte(random.IntN(256))
		}
		if random.IntN(5) == 0 && len(bundle) > 0 {
			bundle = bundle[:random.IntN(len(bundle))]
		}
		agree(t, oracle, bundle)
	}
}

func FuzzCAHashIsK3sOwn(f *testing.F) {
	if _, err := k3stest.Binary("k3s"); err != nil {
		f.Skip(err)
	}
	oracle, err := k3stest.StartOracle()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = oracle.Close() })
	for _, bundle := range bundles(f) {
		f.Add(bundle)
	}
	f.Fuzz(func(t *testing.T, bundle []byte) { agree(t, oracle, bundle) })
}

// TestParseReadsTokensAsK3sDoes compares what the two make of tokens.
func TestParseReadsTokensAsK3sDoes(t *testing.T) {
	requireBuilt(t, "k3s")
	oracle, err := shared.tokenOracle()
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Repeat("0a", 32)
	for _, s := range []string{
		"abcdef.0123456789abcdef", "K10" + hash + "::abcdef.0123456789abcdef",
		"K10" + hash + "::server:pw", "K10" + hash + "::node:pw", "K10" + hash + "::server:p:w", "K10" + hash + "::server:p::w",
		"K10" + hash + ":::pw", "K10" + hash + "::pw", "K10" + hash + "::server:", "K10" + hash + "::", "K10" + hash,
		"K10::server:pw", "K10server:pw", "K10abcdef.0123456789abcdef", "K10", "K10:", "K10::", "K10:::", "K10::::",
		"K10" + hash[1:] + "::server:pw", "K10" + hash + "0::server:pw",
		"pw", "server:pw", "a::b", "Abcdef.0123456789abcdef", "abcdef.0123456789abcdef\n", " pw ", "",
	} {
		want, wantErr := oracle.Parse(s)
		var verdict k3stest.OracleError
		if wantErr != nil && !errors.As(wantErr, &verdict) {
			t.Fatal(wantErr)
		}
		got, gotErr := token.Parse(s)
		if (gotErr != nil) != (wantErr != nil) {
			t.Errorf("Parse(%q): error %v, K3s: %v", s, gotErr, wantErr)
			continue
		}
		ours := k3stest.Parsed{ID: got.ID, Username: got.User, Password: got.Secret.Reveal()}
		if got.Type() == token.Bootstrap {
			ours.Password, ours.Secret = "", got.Secret.Reveal()
		}
		if gotErr == nil && ours != want {
			t.Errorf("Parse(%q) = %+v, K3s reads %+v", s, ours, want)
		}
	}
}
