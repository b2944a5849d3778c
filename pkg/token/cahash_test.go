package token_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// A test on the real K3s compares the hashes of more bundles with those of K3s.
//
// Roots made with Go have no AuthorityKeyId; that of openssl.pem has its own.
func TestCAHashIsThatOfTheRootOrOfTheBytes(t *testing.T) {
	const (
		// of: openssl x509 -outform DER | sha256sum
		root        = "b399cdc325a2a7ee1446a6f998f01069dfddc09c99a74dcacdcc130d2fd8c6e0"
		opensslRoot = "ff8f5b3f00d5087b78f4f403d7b9cbe53317015cccbe1b5dafbd4571a9a5b5a3"
		// of: sha256sum bundle.pem
		bytes = "f1826b67a0361af831cd2deaf2b9460ec45d524f5fe632bf42f164c2ac4a5d64"
	)
	for _, test := range []struct {
		bundle string
		year   int
		want   string
	}{
		{"single.pem", 2025, hash},
		{"bundle.pem", 2025, root},
		{"bundle.pem", 2031, bytes}, // the first certificate has expired
		{"openssl.pem", 2031, opensslRoot},
	} {
		bundle, err := os.ReadFile(filepath.Join("testdata", test.bundle))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Date(test.year, 6, 1, 0, 0, 0, 0, time.UTC)
		if got, err := token.CAHash(bundle, now); err != nil || got != test.want {
			t.Errorf("%s in %d: hash %s (%v), want %s", test.bundle, test.year, got, err, test.want)
		}
	}
}
