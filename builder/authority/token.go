package authority

import (
	"crypto/rand"
	"math/big"

	"github.com/kiln-os/kiln/internal/document"
)

const tokenLetters = "abcdefghijklmnopqrstuvwxyz0123456789"

// NewToken makes a bootstrap token, [a-z0-9]{6}.[a-z0-9]{16}. Every letter is equally likely: 82 bits are secret.
func NewToken() (document.Secret, error) {
	token := make([]byte, 6+1+16)
	for i := range token {
		if i == 6 {
			token[i] = '.'
			continue
		}
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(tokenLetters))))
		if err != nil {
			return document.Secret{}, err
		}
		token[i] = tokenLetters[n.Int64()]
	}
	return document.NewSecret(string(token)), nil
}
