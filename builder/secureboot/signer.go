// Package secureboot signs EFI programs with the user's own key, and makes the files by which firmware learns to trust
// it. The same key, certificate and program give the same bytes: there is no time in a signature, and RSA with PKCS #1
// v1.5 padding, the only kind that UEFI firmware has to know, takes no random numbers.
package secureboot

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/foxboron/go-uefi/authenticode"
	"github.com/foxboron/go-uefi/pkcs7"

	"github.com/kiln-os/kiln/internal/document"
)

// Signer holds a private key and the certificate that vouches for it. It has no text form: printing it shows nothing.
type Signer struct {
	key         *rsa.PrivateKey
	certificate *x509.Certificate
}

// leastBits is what firmware is sure to accept, and what is still good for years.
const leastBits = 2048

// Parse reads a private key and its certificate, both PEM. The names are for messages, which join every problem. No
// message holds anything of the key.
func Parse(keyName string, keyText []byte, certificateName string, certificateText []byte) (Signer, error) {
	key, keyErr := parseKey(keyName, keyText)
	certificate, certificateErr := parseCertificate(certificateName, certificateText)
	if err := errors.Join(keyErr, certificateErr); err != nil {
		return Signer{}, err
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return Signer{}, document.Problem{File: certificateName, Text: fmt.Sprintf("is not the certificate of the key in %s; want the pair that belongs together", keyName)}
	}
	return Signer{key: key, certificate: certificate}, nil
}

func parseKey(name string, text []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, document.Problem{File: name, Text: "is no private key in PEM form; make one with openssl req -newkey rsa:4096"}
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, document.Problem{File: name, Text: "is encrypted, and nobody is here to type its passphrase; decrypt it for the build, as in openssl pkey -in KEY -out /dev/shm/key.pem"}
	}
	var parsed any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, document.Problem{File: name, Text: fmt.Sprintf("holds a %q; want a PRIVATE KEY (the key comes first: --sign KEY,CERT)", block.Type)}
	}
	if err != nil {
		// What the parser says may quote what it read.
		return nil, document.Problem{File: name, Text: "is a damaged private key; write it again"}
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, document.Problem{File: name, Text: "is no RSA key, and firmware knows no other kind; want RSA of 2048 to 4096 bits"}
	}
	if bits := key.N.BitLen(); bits < leastBits {
		return nil, document.Problem{File: name, Text: fmt.Sprintf("is a key of %d bits; want at least %d", bits, leastBits)}
	}
	return key, nil
}

func parseCertificate(name string, text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, document.Problem{File: name, Text: "is no certificate in PEM form; want the one of the key, as openssl req -x509 makes it (--sign KEY,CERT)"}
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, document.Problem{File: name, Text: fmt.Sprintf("is a damaged certificate (%v); write it again", err)}
	}
	return certificate, nil
}

// Fingerprint is the SHA-256 of the certificate, in hex: it stands for the signer in keys of parts, since the signatures
// follow from it and from what is signed.
func (s Signer) Fingerprint() string {
	sum := sha256.Sum256(s.certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// Format implements fmt.Formatter: whatever the verb, the key is not shown.
func (s Signer) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// Sign appends an Authenticode signature to an EFI program (Microsoft, Windows Authenticode Portable Executable Signature
// Format). It has no authenticated attributes, which would hold the time.
func (s Signer) Sign(program []byte) ([]byte, error) {
	image, err := authenticode.Parse(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("signing an EFI program: %w", err)
	}
	if signatures, err := image.Signatures(); err == nil && len(signatures) > 0 {
		return nil, errors.New("signing an EFI program: it is signed already")
	}
	if _, err := image.Sign(s.key, s.certificate, pkcs7.NoAttr()); err != nil {
		return nil, fmt.Errorf("signing an EFI program: %w", err)
	}
	signed := image.Bytes()
	return signed, s.verify(signed)
}

// verify looks at what was signed with the reader's eyes: a wrong signature is seen here, not by the firmware. The library's
// own check does not know signatures without attributes.
func (s Signer) verify(signed []byte) error {
	image, err := authenticode.Parse(bytes.NewReader(signed))
	if err != nil {
		return fmt.Errorf("checking a signature: %w", err)
	}
	signatures, err := image.Signatures()
	if err != nil {
		return fmt.Errorf("checking a signature: %w", err)
	}
	if len(signatures) != 1 {
		return fmt.Errorf("checking a signature: there are %d; want one", len(signatures))
	}
	// The table pads a signature to 8 bytes.
	var message asn1.RawValue
	if _, err := asn1.Unmarshal(signatures[0].Certificate, &message); err != nil {
		return fmt.Errorf("checking a signature: %w", err)
	}
	claim, err := authenticode.ParseAuthenticode(message.FullBytes)
	if err != nil {
		return fmt.Errorf("checking a signature: %w", err)
	}
	if !bytes.Equal(claim.Digest, image.Hash(crypto.SHA256)) {
		return errors.New("checking a signature: it is for another program")
	}
	// What is signed is the content without its outermost tag (PKCS #7, section 9.3); the signature is the message's end.
	var content asn1.RawValue
	if _, err := asn1.Unmarshal(claim.Pkcs.ContentInfo, &content); err != nil {
		return fmt.Errorf("checking a signature: %w", err)
	}
	sum := sha256.Sum256(content.Bytes)
	if err := rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, sum[:], message.FullBytes[len(message.FullBytes)-s.key.Size():]); err != nil {
		return fmt.Errorf("checking a signature: %w", err)
	}
	return nil
}
