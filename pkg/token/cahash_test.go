package token_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
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
	bundleHash    = "f1826b67a0361af831cd2deaf2b9460ec45d524f5fe632bf42f164c2ac4a5d64"
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
func blocks(t testing.TB, bundle []byte) [][]byte {
	t.Helper()
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

func TestCAHashOfOneCertificateIsThatOfTheBytes(t *testing.T) {
	single := read(t, "single.pem")
	block, _ := pem.Decode(single)
	withHeader := pem.EncodeToMemory(&pem.Block{Type: block.Type, Headers: map[string]string{"Name": "x"}, Bytes: block.Bytes})
	for name, bundle := range map[string][]byte{
		"canonical":                 single,
		"CRLF":                      bytes.ReplaceAll(single, []byte("\n"), []byte("\r\n")),
		"comment before":            append([]byte("# the CA\n"), single...),
		"no final newline":          bytes.TrimSpace(single),
		"two final newlines":        slices.Concat(single, []byte("\n")),
		"block of another type":     slices.Concat(encode("EC PARAMETERS", "x"), single),
		"certificate with a header": slices.Concat(withHeader, single),
	} {
		if got, err := token.CAHash(bundle, now); err != nil || got != sum(bundle) {
			t.Errorf("%s: hash %s (%v), want that of the bytes", name, got, err)
		}
	}
}

func TestCAHashOfABundle(t *testing.T) {
	bundle := read(t, "bundle.pem")
	certs := blocks(t, bundle)
	leaf, intermediate, root := certs[0], certs[1], certs[2]
	unrelated := blocks(t, read(t, "unrelated.pem"))[1]
	join := func(certs ...[]byte) []byte { return slices.Concat(certs...) }

	tests := map[string]struct {
		bundle []byte
		now    time.Time
		root   bool // else the hash is that of the bytes
	}{
		"leaf, intermediate and root":       {bundle, now, true},
		"root before the intermediate":      {join(leaf, root, intermediate), now, true},
		"an unrelated root before the root": {join(leaf, unrelated, intermediate, root), now, true},
		"comments and CRLF":                 {bytes.ReplaceAll(join([]byte("# CA\n"), bundle), []byte("\n"), []byte("\r\n")), now, true},
		"intermediate and root":             {join(intermediate, root), now, true},
		"root twice":                        {join(root, root), now, true},
		"expired leaf":                      {bundle, leafExpired, false},
		"leaf that is not valid yet":        {bundle, time.Date(2019, 6, 1, 0, 0, 0, 0, time.UTC), false},
		"no root":                           {join(leaf, intermediate), now, false},
		"no intermediate":                   {join(leaf, root), now, false},
		"an unrelated root":                 {join(leaf, unrelated), now, false},
		"root first":                        {join(root, intermediate), now, false},
		"root alone":                        {root, now, false},
	}
	for name, test := range tests {
		want := sum(test.bundle)
		if test.root {
			want = rootHash
		}
		if got, err := token.CAHash(test.bundle, test.now); err != nil || got != want {
			t.Errorf("%s: hash %s (%v), want %s", name, got, err, want)
		}
	}
	if got, _ := token.CAHash(bundle, leafExpired); got != bundleHash {
		t.Errorf("hash %s, want sha256sum's %s", got, bundleHash)
	}
}

func encode(blockType, content string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: []byte(content)})
}

func TestCAHashFailsWithoutCertificates(t *testing.T) {
	single := read(t, "single.pem")
	block, _ := pem.Decode(single)
	for name, test := range map[string]struct {
		bundle []byte
		want   string
	}{
		"nothing":                        {nil, "no PEM"},
		"garbage":                        {[]byte("garbage"), "no PEM"},
		"DER":                            {block.Bytes, "no PEM"},
		"cut in the middle":              {single[:len(single)/2], "no PEM"},
		"a key only":                     {encode("PRIVATE KEY", "x"), "no PEM"},
		"TRUSTED CERTIFICATE":            {encode("TRUSTED CERTIFICATE", string(block.Bytes)), "no PEM"},
		"a malformed certificate":        {encode("CERTIFICATE", "x"), "certificate 1 of the bundle"},
		"a good one and a malformed one": {slices.Concat(single, encode("CERTIFICATE", "x")), "certificate 2 of the bundle"},
	} {
		got, err := token.CAHash(test.bundle, now)
		if err == nil || got != "" || !strings.HasPrefix(err.Error(), test.want) || errors.Is(err, token.ErrNoCertificates) != (test.want == "no PEM") {
			t.Errorf("%s: hash %q (%v), want the error %q", name, got, err, test.want)
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
