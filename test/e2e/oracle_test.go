package e2e

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
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

// bundles are CA files as people have them, and as they should not.
func bundles(tb testing.TB) map[string][]byte {
	tb.Helper()
	authority := func(name string, parent *k3stest.Authority, end time.Time) *k3stest.Authority {
		made, err := k3stest.NewCertificate(parent, &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotAfter: end, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		})
		if err != nil {
			tb.Fatal(err)
		}
		return made
	}
	future, past := time.Now().Add(24*time.Hour), time.Now().Add(-time.Hour)
	root := authority("root", nil, future)
	intermediate := authority("intermediate", root, future)
	leaf, expired := authority("leaf", intermediate, future), authority("expired", intermediate, past)
	one, other := root.PEM(), authority("other", nil, future).PEM()
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	noDER := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")})
	return map[string][]byte{
		"one":                     one,
		"one without its newline": bytes.TrimSpace(one),
		"one with CRLF":           bytes.ReplaceAll(one, []byte("\n"), []byte("\r\n")),
		"one with a comment":      join([]byte("# our CA\n"), one),
		"one and a key":           join(one, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}})),
		"one with headers":        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: root.Certificate.Raw}),
		"one indented":            []byte("  " + strings.ReplaceAll(string(one), "\n", "\n  ")),
		"chain":                   join(leaf.PEM(), intermediate.PEM(), one),
		"chain, root first":       join(one, intermediate.PEM(), leaf.PEM()),
		"chain without its root":  join(leaf.PEM(), intermediate.PEM()),
		"chain, leaf expired":     join(expired.PEM(), intermediate.PEM(), one),
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
		want, wantErr := oracle.Hash(bundle)
		var verdict k3stest.OracleError
		if wantErr != nil && !errors.As(wantErr, &verdict) {
			t.Fatal(wantErr)
		}
		got, gotErr := token.CAHash(bundle, time.Now())
		if (gotErr != nil) != (wantErr != nil) || got != want {
			t.Errorf("CAHash returns %q (error: %v), K3s %q (error: %v), for\n%q", got, gotErr, want, wantErr, bundle)
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
		want, wantErr := oracle.Parse(text)
		got, gotErr := token.Parse(text)
		ours := k3stest.Parsed{ID: got.ID, Username: got.User, Password: got.Secret.Reveal()}
		if got.Type() == token.Bootstrap {
			ours.Password, ours.Secret = "", got.Secret.Reveal()
		}
		if (gotErr != nil) != (wantErr != nil) || gotErr == nil && ours != want {
			t.Errorf("Parse(%q) = %+v (error: %v), K3s reads %+v (error: %v)", text, ours, gotErr, want, wantErr)
		}
	}
}
