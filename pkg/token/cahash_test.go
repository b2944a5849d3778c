package token_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

// The hashes are those of sha256sum, and rootHash and opensslHash those of
//
//	openssl x509 -outform DER | sha256sum
//
// The leaf of bundle.pem and unrelated.pem expires at the end of 2029; the other
// certificates are valid for a century. Roots made with Go have no
// AuthorityKeyId; that of openssl.pem has its own.
const (
	singleHash    = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"
	unrelatedHash = "62c043cc96ac67846cb23f0bb45b04593171955d301b1f84e7e6550d2c18ed43"
	rootHash      = "b399cdc325a2a7ee1446a6f998f01069dfddc09c99a74dcacdcc130d2fd8c6e0"
	opensslHash   = "ff8f5b3f00d5087b78f4f403d7b9cbe53317015cccbe1b5dafbd4571a9a5b5a3"
)

var (
	now         = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	leafExpired = time.Date(2031, 6, 1, 0, 0, 0, 0, time.UTC)
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blocks splits a bundle into the PEM of its certificates.
func blocks(bundle []byte) [][]byte {
	var all [][]byte
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		all = append(all, pem.EncodeToMemory(block))
	}
	return all
}

func sum(b []byte) string {
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:])
}

// A test on the real K3s compares the hashes of more bundles with those of K3s.
func TestCAHashIsThatOfTheRootOrOfTheBytes(t *testing.T) {
	bundle := read(t, "bundle.pem")
	certs, unrelated := blocks(bundle), blocks(read(t, "unrelated.pem"))[1]
	leaf, intermediate, root := certs[0], certs[1], certs[2]
	withOtherRoot := slices.Concat(leaf, unrelated)
	for name, test := range map[string]struct {
		bundle []byte
		now    time.Time
		want   string
	}{
		"a single CA":                       {read(t, "single.pem"), now, singleHash},
		"a chain":                           {bundle, now, rootHash},
		"another chain":                     {read(t, "unrelated.pem"), now, unrelatedHash},
		"a chain of openssl":                {read(t, "openssl.pem"), leafExpired, opensslHash},
		"an unrelated root before the root": {slices.Concat(leaf, unrelated, intermediate, root), now, rootHash},
		"comments and CRLF":                 {bytes.ReplaceAll(slices.Concat([]byte("# CA\n"), bundle), []byte("\n"), []byte("\r\n")), now, rootHash},
		"a chain with an expired leaf":      {bundle, leafExpired, sum(bundle)},
		"an unrelated root":                 {withOtherRoot, now, sum(withOtherRoot)},
	} {
		if got, err := token.CAHash(test.bundle, test.now); err != nil || got != test.want {
			t.Errorf("%s: hash %s (%v), want %s", name, got, err, test.want)
		}
	}
}

func TestCAHashFailsWithoutCertificates(t *testing.T) {
	noDER := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	for want, bundle := range map[string][]byte{
		token.ErrNoCertificates.Error(): []byte("garbage"),
		"certificate 2 of the bundle:":  slices.Concat(read(t, "single.pem"), noDER),
	} {
		if got, err := token.CAHash(bundle, now); err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("hash %q (%v), want the error %q", got, err, want)
		}
	}
}
