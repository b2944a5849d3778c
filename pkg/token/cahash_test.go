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

func read(t testing.TB, name string) []byte {
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

func TestCAHashOfKnownFiles(t *testing.T) {
	for name, test := range map[string]struct {
		now  time.Time
		want string
	}{
		"single.pem":    {now, singleHash},
		"bundle.pem":    {now, rootHash},
		"unrelated.pem": {now, unrelatedHash},
		"openssl.pem":   {leafExpired, opensslHash},
	} {
		got, err := token.CAHash(read(t, name), test.now)
		if err != nil || got != test.want {
			t.Errorf("%s: hash %s (%v), want %s", name, got, err, test.want)
		}
	}
}

// A test of the whole plugin compares the hashes of more bundles with those of K3s.
func TestCAHashIsThatOfTheRootOrOfTheBytes(t *testing.T) {
	bundle, single := read(t, "bundle.pem"), read(t, "single.pem")
	certs := blocks(bundle)
	leaf, intermediate, root := certs[0], certs[1], certs[2]
	unrelated := blocks(read(t, "unrelated.pem"))[1]
	join := func(certs ...[]byte) []byte { return slices.Concat(certs...) }
	for name, test := range map[string]struct {
		bundle []byte
		now    time.Time
		root   bool // else the hash is that of the bytes
	}{
		"root before the intermediate":      {join(leaf, root, intermediate), now, true},
		"an unrelated root before the root": {join(leaf, unrelated, intermediate, root), now, true},
		"comments and CRLF":                 {bytes.ReplaceAll(join([]byte("# CA\n"), bundle), []byte("\n"), []byte("\r\n")), now, true},
		"expired leaf":                      {bundle, leafExpired, false},
		"no root":                           {join(leaf, intermediate), now, false},
		"an unrelated root":                 {join(leaf, unrelated), now, false},
		"one with a comment":                {join([]byte("# the CA\n"), single), now, false},
		"one and a key":                     {join(encode("EC PARAMETERS", "x"), single), now, false},
	} {
		want := sum(test.bundle)
		if test.root {
			want = rootHash
		}
		if got, err := token.CAHash(test.bundle, test.now); err != nil || got != want {
			t.Errorf("%s: hash %s (%v), want %s", name, got, err, want)
		}
	}
}

func encode(blockType, content string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: []byte(content)})
}

func TestCAHashFailsWithoutCertificates(t *testing.T) {
	for want, bundle := range map[string][]byte{
		token.ErrNoCertificates.Error(): []byte("garbage"),
		"certificate 2 of the bundle:":  slices.Concat(read(t, "single.pem"), encode("CERTIFICATE", "x")),
	} {
		if got, err := token.CAHash(bundle, now); err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("hash %q (%v), want the error %q", got, err, want)
		}
	}
}

func FuzzCAHash(f *testing.F) {
	for _, name := range []string{"single.pem", "bundle.pem", "unrelated.pem"} { // more are in testdata/fuzz
		bundle := read(f, name)
		f.Add(bundle)
		f.Add(bytes.ReplaceAll(bundle, []byte("\n"), []byte("\r\n")))
		f.Add(append([]byte("# comment\n"), bytes.TrimSpace(bundle)...))
	}
	f.Fuzz(func(t *testing.T, bundle []byte) {
		before := slices.Clone(bundle)
		got, err := token.CAHash(bundle, now)
		if !bytes.Equal(before, bundle) {
			t.Fatal("the bundle was changed")
		}
		if err != nil {
			return
		}
		ok := got == sum(bundle)
		for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
			ok = ok || got == sum(block.Bytes)
		}
		if !ok {
			t.Fatal("the hash is neither that of the bytes nor that of a certificate")
		}
	})
}
