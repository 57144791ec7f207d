package authority

import (
	"crypto/rand"
	"encoding/hex"
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

// certificateKeySize is that of an AES-256 key, in bytes.
const certificateKeySize = 32

// NewCertificateKey makes the key that uploaded certificates are encrypted with: AES-256, as hexadecimal digits.
func NewCertificateKey() (document.Secret, error) {
	key := make([]byte, certificateKeySize)
	if _, err := rand.Read(key); err != nil {
		return document.Secret{}, err
	}
	return document.NewSecret(hex.EncodeToString(key)), nil
}
