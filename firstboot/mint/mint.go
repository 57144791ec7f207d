// Package mint makes short-lived client certificates from a certificate authority's key pair, in memory: a control plane
// holds the authorities, and needs no other credentials to ask the cluster's API or etcd.
package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Pair is a certificate and its private key, both as PEM.
type Pair struct{ Certificate, Key []byte }

// valid is how long a certificate can be used: longer than a first boot of a slow machine, shorter than is worth stealing.
const valid = 6 * time.Hour

// Client makes a certificate for a TLS client called subject, signed by authority. Its errors never quote the key.
func Client(authority Pair, subject pkix.Name) (Pair, error) {
	certificate, signer, err := parse(authority)
	if err != nil {
		return Pair{}, fmt.Errorf("reading certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("making serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		// The peer's clock may be behind this one's: the authority's own beginning is always in the past.
		NotBefore: certificate.NotBefore, NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, certificate, key.Public(), signer)
	if err != nil {
		return Pair{}, fmt.Errorf("signing certificate: %w", err)
	}
	own, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encoding key: %w", err)
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: own}),
	}, nil
}

func parse(authority Pair) (*x509.Certificate, crypto.Signer, error) {
	block, _ := pem.Decode(authority.Certificate)
	if block == nil {
		return nil, nil, errors.New("its certificate is not PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, errors.New("its certificate cannot be read")
	}
	signer, err := parseKey(authority.Key)
	return certificate, signer, err
}

// parseKey reads the three forms that kubeadm reads: PKCS #8, PKCS #1 (RSA) and SEC 1 (EC).
func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("its key is not PEM")
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	return nil, errors.New("its key cannot be read")
}
