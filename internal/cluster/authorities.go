package cluster

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// checkAuthorities checks the PEM texts. A control plane needs all of them with their keys; a worker gets no key.
func checkAuthorities(p *document.Problems, a Authorities, role string) {
	worker := role == profile.Worker
	for name, pair := range map[string]KeyPair{"cluster": a.Cluster, "frontProxy": a.FrontProxy, "etcd": a.Etcd} {
		if worker && name != "cluster" && pair.Certificate == "" && pair.Key.IsZero() {
			continue
		}
		checkPair(p, "bootstrap.authorities."+name, pair, worker)
	}
	if worker && a.ServiceAccount.Public == "" && a.ServiceAccount.Key.IsZero() {
		return
	}
	checkServiceAccount(p, a.ServiceAccount, worker)
}

func checkPair(p *document.Problems, field string, pair KeyPair, worker bool) {
	certificate, err := ParseCertificate(pair.Certificate)
	switch {
	case err != nil:
		p.Add(field+".certificate", "%s; want one certificate as PEM", err)
	case !certificate.IsCA || !certificate.BasicConstraintsValid:
		p.Add(field+".certificate", "is not a certificate authority's; want a certificate with CA:TRUE")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		p.Add(field+".certificate", "may not sign certificates; want key usage keyCertSign")
	}
	checkKey(p, keyCheck{field: field + ".key", key: pair.Key, worker: worker, public: publicKeyOf(certificate), of: "the certificate"})
}

func checkServiceAccount(p *document.Problems, account ServiceAccountKey, worker bool) {
	const field = "bootstrap.authorities.serviceAccount"
	public, err := parsePublic(account.Public)
	if err != nil {
		p.Add(field+".public", "%s; want one public key as PEM", err)
	}
	checkKey(p, keyCheck{field: field + ".key", key: account.Key, worker: worker, public: public, of: "the public key"})
}

// keyCheck is a private key and what it has to match; a nil public key was already found wrong.
type keyCheck struct {
	field  string
	key    document.Secret
	worker bool
	public crypto.PublicKey
	of     string
}

func checkKey(p *document.Problems, c keyCheck) {
	if c.worker {
		if !c.key.IsZero() {
			p.Add(c.field, "a worker must not hold it; leave the key out of a worker's identity")
		}
		return
	}
	key, err := ParsePrivateKey(c.key.Reveal())
	if err != nil {
		p.Add(c.field, "%s; want one private key as PEM, not encrypted", err)
		return
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if c.public != nil && (!ok || !public.Equal(c.public)) {
		p.Add(c.field, "does not belong to %s; give the two parts of one pair", c.of)
	}
}

func publicKeyOf(certificate *x509.Certificate) crypto.PublicKey {
	if certificate == nil {
		return nil
	}
	return certificate.PublicKey
}

// onlyBlock reads a text that holds one PEM block. Its errors, and those of the parsers below, never quote the text, which
// may be a key.
func onlyBlock(text string) (*pem.Block, error) {
	if text == "" {
		return nil, errors.New("missing")
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("cannot be read")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("holds more than one PEM block")
	}
	return block, nil
}

// ParseCertificate reads one certificate as PEM.
func ParseCertificate(text string) (*x509.Certificate, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("cannot be read")
	}
	return certificate, nil
}

func parsePublic(text string) (crypto.PublicKey, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	return key, nil
}

// ParsePrivateKey reads the three forms of private keys that kubeadm reads: PKCS #8, PKCS #1 (RSA) and SEC 1 (EC).
func ParsePrivateKey(text string) (crypto.Signer, error) {
	block, err := onlyBlock(text)
	if err != nil {
		return nil, err
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
	return nil, errors.New("cannot be read")
}
