package token

import (
	"encoding/hex"
	"fmt"
	"io"
)

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"

// PasswordBytes is how many random bytes a generated password has: K3s makes
// its own server token of as many (pkg/daemons/control/deps).
const PasswordBytes = 16

// GenerateBootstrap draws a bootstrap token, every one equally likely, from a
// source such as crypto/rand.Reader.
func GenerateBootstrap(random io.Reader) (Token, error) {
	drawn, err := draw(random, IDLength+SecretLength)
	if err != nil {
		return Token{}, err
	}
	return Token{ID: string(drawn[:IDLength]), Secret: Secret(drawn[IDLength:])}, nil
}

// GeneratePassword draws the password of a server token (UserServer) or an
// agent token (UserNode): 32 hexadecimal digits.
func GeneratePassword(random io.Reader, user string) (Token, error) {
	b := make([]byte, PasswordBytes)
	if _, err := io.ReadFull(random, b); err != nil {
		return Token{}, fmt.Errorf("read random bytes: %w", err)
	}
	return Token{User: user, Secret: Secret(hex.EncodeToString(b))}, nil
}

// draw returns n characters of the alphabet. Bytes of the source that would
// make some characters likelier than others are thrown away.
func draw(random io.Reader, n int) ([]byte, error) {
	const fair = 256 - 256%len(alphabet)
	drawn := make([]byte, 0, n)
	b := make([]byte, n)
	for len(drawn) < n {
		missing := b[:n-len(drawn)]
		if _, err := io.ReadFull(random, missing); err != nil {
			return nil, fmt.Errorf("read random bytes: %w", err)
		}
		for _, c := range missing {
			if int(c) < fair {
				drawn = append(drawn, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return drawn, nil
}
