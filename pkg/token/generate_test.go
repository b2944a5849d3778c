package token_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/k3s-token/kubectl-k3s-token/pkg/token"
)

func TestGenerateBootstrapDrawsEveryCharacterAlike(t *testing.T) {
	const draws, alphabet = 20_000, "0123456789abcdefghijklmnopqrstuvwxyz"
	source := rand.NewChaCha8([32]byte{1})
	counts := map[rune]int{}
	for range draws {
		drawn, err := token.GenerateBootstrap(source)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := token.Parse(drawn.Reveal()); err != nil || again != drawn {
			t.Fatalf("it is read as %v (%v)", again, err)
		}
		for _, r := range drawn.ID + drawn.Secret.Reveal() {
			counts[r]++
		}
	}
	// Chi-square with 35 degrees of freedom: beyond 66.6 once in a thousand.
	// A remainder of 256 that is not thrown away gives some 900.
	expected := float64(draws*(token.IDLength+token.SecretLength)) / float64(len(alphabet))
	chiSquare := 0.0
	for _, r := range alphabet {
		chiSquare += (float64(counts[r]) - expected) * (float64(counts[r]) - expected) / expected
		delete(counts, r)
	}
	if chiSquare > 66.6 {
		t.Errorf("chi-square is %.1f: some characters are likelier than others", chiSquare)
	}
	if len(counts) > 0 {
		t.Errorf("%d characters outside of the alphabet were drawn", len(counts))
	}
}

func TestGenerateBootstrapThrowsAwayWhatIsUnfair(t *testing.T) {
	// 252 to 255 are beyond the last whole multiple of 36.
	source := append([]byte{252, 253, 254, 255, 251}, bytes.Repeat([]byte{255}, 17)...)
	source = append(source, bytes.Repeat([]byte{0}, 21)...)
	drawn, err := token.GenerateBootstrap(bytes.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := drawn.Reveal(), "z00000.0000000000000000"; got != want {
		t.Errorf("drew %s, want %s", got, want)
	}
}

func TestGenerateReadsNoMoreThanItNeeds(t *testing.T) {
	source := bytes.NewReader(make([]byte, 100))
	if _, err := token.GenerateBootstrap(source); err != nil {
		t.Fatal(err)
	}
	if got, want := source.Len(), 100-token.IDLength-token.SecretLength; got != want {
		t.Errorf("%d bytes are left, want %d", got, want)
	}
}

func TestGenerateTakesASourceThatReadsBytewise(t *testing.T) {
	want, err := token.GenerateBootstrap(rand.NewChaCha8([32]byte{2}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := token.GenerateBootstrap(iotest.OneByteReader(rand.NewChaCha8([32]byte{2})))
	if err != nil || got.ID != want.ID {
		t.Errorf("drew %v (%v), want %v", got, err, want)
	}
	if password, err := token.GeneratePassword(iotest.OneByteReader(rand.NewChaCha8([32]byte{2})), token.UserServer); err != nil || len(password.Secret.Reveal()) != 32 {
		t.Errorf("drew a password of %d digits (%v)", len(password.Secret.Reveal()), err)
	}
}

func TestGeneratePassword(t *testing.T) {
	for user, want := range map[string]token.Type{token.UserServer: token.Server, token.UserNode: token.Agent} {
		drawn, err := token.GeneratePassword(bytes.NewReader([]byte("0123456789abcdef")), user)
		if err != nil {
			t.Fatal(err)
		}
		if drawn.Type() != want || drawn.Reveal() != "30313233343536373839616263646566" {
			t.Errorf("drew %v of type %s", drawn, drawn.Type())
		}
	}
}

func TestGenerateFailsWithItsSource(t *testing.T) {
	broken := errors.New("no entropy")
	for name, test := range map[string]struct {
		source io.Reader
		want   error
	}{
		"broken source":              {iotest.ErrReader(broken), broken},
		"empty source":               {strings.NewReader(""), io.EOF},
		"source that ends early":     {strings.NewReader("0123456789"), io.ErrUnexpectedEOF},
		"source that breaks midways": {io.MultiReader(strings.NewReader("0123"), iotest.ErrReader(broken)), broken},
	} {
		drawn, err := token.GenerateBootstrap(test.source)
		if !errors.Is(err, test.want) || drawn != (token.Token{}) {
			t.Errorf("%s: drew %v (%v), want nothing and %v", name, drawn, err, test.want)
		}
	}
	password, err := token.GeneratePassword(strings.NewReader("0123456789"), token.UserServer)
	if !errors.Is(err, io.ErrUnexpectedEOF) || password != (token.Token{}) {
		t.Errorf("drew %v (%v), want nothing and an error", password, err)
	}
	// What is thrown away is drawn again, and that fails too.
	if _, err := token.GenerateBootstrap(bytes.NewReader(bytes.Repeat([]byte{255}, 22))); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want %v", err, io.EOF)
	}
}
