package token_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
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

// The known hashes are those of sha256sum, and for the root's of
//
//	openssl x509 -outform DER | sha256sum
//
// The leaf of bundle.pem and unrelated.pem ends with 2029; all others are good
// for a century. The roots that Go makes have no AuthorityKeyId; that of
// openssl.pem has its own.
const (
	singleHash    = "d2ec0c9a903722dc12c1dc90129d792f8094e6f5a2a7e2ea0902fbee68442260"
	bundleHash    = "f1826b67a0361af831cd2deaf2b9460ec45d524f5fe632bf42f164c2ac4a5d64"
	unrelatedHash = "62c043cc96ac67846cb23f0bb45b04593171955d301b1f84e7e6550d2c18ed43"
	rootHash      = "b399cdc325a2a7ee1446a6f998f01069dfddc09c99a74dcacdcc130d2fd8c6e0"
	opensslHash   = "ff8f5b3f00d5087b78f4f403d7b9cbe53317015cccbe1b5dafbd4571a9a5b5a3"
)

var (
	now       = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	leafEnded = time.Date(2031, 6, 1, 0, 0, 0, 0, time.UTC)
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blocks takes a bundle apart into the PEM of its certificates.
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
		"openssl.pem":   {leafEnded, opensslHash},
	} {
		got, err := token.CAHash(read(t, name), test.now)
		if err != nil || got != test.want {
			t.Errorf("%s: hash %s (%v), want %s", name, got, err, test.want)
		}
	}
}

func TestCAHashOfOneCertificateIsThatOfTheBytes(t *testing.T) {
	single := read(t, "single.pem")
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 2}})
	block, _ := pem.Decode(single)
	withHeader := pem.EncodeToMemory(&pem.Block{Type: block.Type, Headers: map[string]string{"Name": "x"}, Bytes: block.Bytes})
	bundles := map[string][]byte{
		"canonical":                 single,
		"CRLF":                      bytes.ReplaceAll(single, []byte("\n"), []byte("\r\n")),
		"comment before":            append([]byte("# the CA\n"), single...),
		"comment behind":            slices.Concat(single, []byte("the CA\n")),
		"no final newline":          bytes.TrimSpace(single),
		"two final newlines":        slices.Concat(single, []byte("\n")),
		"block of another type":     slices.Concat(key, single),
		"certificate with a header": slices.Concat(withHeader, single),
	}
	seen := map[string]string{}
	for name, bundle := range bundles {
		got, err := token.CAHash(bundle, now)
		if err != nil || got != sum(bundle) {
			t.Errorf("%s: hash %s (%v), want that of the bytes", name, got, err)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[got] = name
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
		"leaf, intermediate and root":          {bundle, now, true},
		"root before the intermediate":         {join(leaf, root, intermediate), now, true},
		"an unrelated root before the root":    {join(leaf, unrelated, intermediate, root), now, true},
		"comments and CRLF":                    {bytes.ReplaceAll(join([]byte("# CA\n"), bundle), []byte("\n"), []byte("\r\n")), now, true},
		"intermediate and root":                {join(intermediate, root), now, true},
		"root twice":                           {join(root, root), now, true},
		"leaf that has ended":                  {bundle, leafEnded, false},
		"leaf that has not begun":              {bundle, time.Date(2019, 6, 1, 0, 0, 0, 0, time.UTC), false},
		"no root":                              {join(leaf, intermediate), now, false},
		"no intermediate":                      {join(leaf, root), now, false},
		"an unrelated root":                    {join(leaf, unrelated), now, false},
		"root first: it is among no others":    {join(root, intermediate), now, false},
		"the root alone is not one of several": {root, now, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := sum(test.bundle)
			if test.root {
				want = rootHash
			}
			got, err := token.CAHash(test.bundle, test.now)
			if err != nil || got != want {
				t.Errorf("hash %s (%v), want %s", got, err, want)
			}
		})
	}
	if got, _ := token.CAHash(bundle, leafEnded); got != bundleHash {
		t.Errorf("hash %s, want sha256sum's %s", got, bundleHash)
	}
}

func TestCAHashOfWhatIsNoCertificate(t *testing.T) {
	single := read(t, "single.pem")
	block, _ := pem.Decode(single)
	tests := map[string]struct {
		bundle []byte
		none   bool // ErrNoCertificates
	}{
		"nothing":                       {nil, true},
		"blank":                         {[]byte(" \n\t"), true},
		"garbage":                       {[]byte("garbage"), true},
		"DER":                           {block.Bytes, true},
		"cut in the middle":             {single[:len(single)/2], true},
		"a key only":                    {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), true},
		"TRUSTED CERTIFICATE":           {pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: block.Bytes}), true},
		"a block with a header":         {pem.EncodeToMemory(&pem.Block{Type: block.Type, Headers: map[string]string{"a": "b"}, Bytes: block.Bytes}), true},
		"a certificate that is none":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), false},
		"a good one and one that's not": {slices.Concat(single, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := token.CAHash(test.bundle, now)
			if err == nil || got != "" {
				t.Fatalf("hash %q (%v), want an error", got, err)
			}
			if errors.Is(err, token.ErrNoCertificates) != test.none {
				t.Errorf("error %q; that there is none should be %v", err, test.none)
			}
		})
	}
	_, err := token.CAHash(tests["a good one and one that's not"].bundle, now)
	if err == nil || !strings.HasPrefix(err.Error(), "certificate 2 of the bundle") {
		t.Errorf("error %v, want it to name certificate 2", err)
	}
}

func TestRepairPEM(t *testing.T) {
	single, bundle := read(t, "single.pem"), read(t, "bundle.pem")
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 2}})
	edit := func(b []byte, old, replacement string) []byte {
		return bytes.ReplaceAll(b, []byte(old), []byte(replacement))
	}
	rewrapped := slices.Concat([]byte("-----BEGIN CERTIFICATE-----\n"),
		edit(bytes.TrimSuffix(bytes.TrimPrefix(single, []byte("-----BEGIN CERTIFICATE-----\n")), []byte("-----END CERTIFICATE-----\n")), "\n", ""),
		[]byte("\n-----END CERTIFICATE-----\n"))
	indented := slices.Concat([]byte("  "), edit(bytes.TrimSpace(single), "\n", "\n  "), []byte("\n"))
	tests := map[string]struct{ in, want []byte }{
		"canonical":                         {single, single},
		"canonical bundle":                  {bundle, bundle},
		"no final newline":                  {bytes.TrimSpace(single), single},
		"CRLF":                              {edit(single, "\n", "\r\n"), single},
		"bundle with CRLF":                  {edit(bundle, "\n", "\r\n"), bundle},
		"empty lines between":               {edit(bundle, "-----BEGIN", "\n\n-----BEGIN"), bundle},
		"blanks at the ends of lines":       {edit(single, "\n", " \n"), single},
		"base64 in one line":                {rewrapped, single},
		"a comment counts":                  {append([]byte("# CA\n"), single...), append([]byte("# CA\n"), single...)},
		"a block of another type counts":    {slices.Concat(key, single), slices.Concat(key, single)},
		"what is no certificate stays":      {[]byte(" garbage "), []byte(" garbage ")},
		"nothing stays":                     {nil, nil},
		"indented, which hides the PEM":     {indented, indented},
		"blank lines alone":                 {[]byte("\r\n"), []byte("\r\n")},
		"a comment and CRLF stay untouched": {edit(append([]byte("# CA\n"), single...), "\n", "\r\n"), edit(append([]byte("# CA\n"), single...), "\n", "\r\n")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(test.in)
			if got := token.RepairPEM(test.in); !bytes.Equal(got, test.want) {
				t.Errorf("repaired to\n%q\nwant\n%q", got, test.want)
			}
			if !bytes.Equal(test.in, before) {
				t.Error("the argument was changed")
			}
		})
	}
}

func TestSameCertificates(t *testing.T) {
	parse := func(bundle []byte) []*x509.Certificate {
		t.Helper()
		certs, err := token.ParseCertificates(bundle)
		if err != nil {
			t.Fatal(err)
		}
		return certs
	}
	bundle := read(t, "bundle.pem")
	certs := parse(bundle)
	wrapped := parse(bytes.ReplaceAll(bundle, []byte("\n"), []byte("\r\n")))
	swapped := []*x509.Certificate{certs[1], certs[0], certs[2]}
	for name, test := range map[string]struct {
		a, b []*x509.Certificate
		want bool
	}{
		"the same, wrapped otherwise": {certs, wrapped, true},
		"none and none":               {nil, nil, true},
		"one more":                    {certs, certs[:2], false},
		"another order":               {certs, swapped, false},
		"others":                      {certs[:1], certs[1:2], false},
	} {
		if got := token.SameCertificates(test.a, test.b); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func FuzzCAHash(f *testing.F) {
	addBundles(f)
	f.Fuzz(func(t *testing.T, bundle []byte) {
		before := slices.Clone(bundle)
		got, err := token.CAHash(bundle, now)
		if !bytes.Equal(before, bundle) {
			t.Fatal("the bundle was changed")
		}
		certs, parseErr := token.ParseCertificates(bundle)
		if (err == nil) != (parseErr == nil) {
			t.Fatalf("hash %q (%v), but the certificates say %v", got, err, parseErr)
		}
		if err != nil {
			return
		}
		ok := got == sum(bundle)
		for _, cert := range certs[1:] {
			ok = ok || got == sum(cert.Raw)
		}
		if !ok {
			t.Fatal("the hash is neither that of the bytes nor that of a certificate behind the first")
		}
	})
}

func FuzzRepairPEM(f *testing.F) {
	addBundles(f)
	f.Fuzz(func(t *testing.T, bundle []byte) {
		before := slices.Clone(bundle)
		repaired := token.RepairPEM(bundle)
		if !bytes.Equal(before, bundle) {
			t.Fatal("the bundle was changed")
		}
		if !bytes.Equal(token.RepairPEM(repaired), repaired) {
			t.Fatal("what is repaired is repaired once more")
		}
		squeeze := func(b []byte) string { return strings.Join(strings.Fields(string(b)), "") }
		if squeeze(repaired) != squeeze(bundle) {
			t.Fatal("more than white space was changed")
		}
		old, oldErr := token.ParseCertificates(bundle)
		repairedCerts, err := token.ParseCertificates(repaired)
		if (oldErr == nil) != (err == nil) || !token.SameCertificates(old, repairedCerts) {
			t.Fatal("the certificates are others")
		}
	})
}

// addBundles adds the files of testdata as seeds; smaller ones are in
// testdata/fuzz.
func addBundles(f *testing.F) {
	f.Helper()
	for _, name := range []string{"single.pem", "bundle.pem", "unrelated.pem"} {
		bundle := read(f, name)
		f.Add(bundle)
		f.Add(bytes.ReplaceAll(bundle, []byte("\n"), []byte("\r\n")))
		f.Add(append([]byte("# comment\n"), bytes.TrimSpace(bundle)...))
	}
}
