// Package authority makes what a cluster trusts, before any of its machines exists: certificate authorities, the
// service accounts' key pair, bootstrap tokens, and certificates of clients. It keeps everything in memory; writing it
// down at mode 0600 is the caller's.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

const (
	// Backdate lies between now and the beginning of every certificate: a machine whose clock is some days slow on its
	// first boot must not find them not yet valid. kubeadm's own 5 minutes do not cover that.
	Backdate = 7 * 24 * time.Hour
	// Lifetime is an authority's, kubeadm's own (constants.CACertificateValidityPeriod).
	Lifetime = 10 * 365 * 24 * time.Hour
	// ClientLifetime is a client certificate's, kubeadm's own (constants.CertificateValidityPeriod).
	ClientLifetime = 365 * 24 * time.Hour
)

// Set is a cluster's authorities with their keys, ready to sign.
type Set struct {
	cluster    pair
	frontProxy pair
	etcd       pair
	accounts   crypto.Signer
	made       time.Time
}

// pair is a certificate in DER and the key that signs with it.
type pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// New makes a cluster's authorities at the time now. The keys are ECDSA P-256: an identity with all of them stays below
// what the metadata services of clouds take (16 KB on EC2), which RSA keys alone would nearly fill.
func New(now time.Time) (Set, error) {
	set := Set{made: now}
	// The names are those that kubeadm gives (cmd/kubeadm/app/phases/certs/certlist.go).
	for name, into := range map[string]*pair{"kubernetes": &set.cluster, "front-proxy-ca": &set.frontProxy, "etcd-ca": &set.etcd} {
		made, err := newAuthority(name, now)
		if err != nil {
			return Set{}, fmt.Errorf("making certificate authority %s: %w", name, err)
		}
		*into = made
	}
	key, err := newKey()
	if err != nil {
		return Set{}, fmt.Errorf("making the service accounts' key: %w", err)
	}
	set.accounts = key
	return set, nil
}

// Open makes a set of authorities that were rendered before, to sign with them at the time now. The keys may be of any kind
// that kubeadm reads.
func Open(a cluster.Authorities, now time.Time) (Set, error) {
	set := Set{made: now}
	for name, part := range map[string]struct {
		from cluster.KeyPair
		into *pair
	}{"cluster": {a.Cluster, &set.cluster}, "frontProxy": {a.FrontProxy, &set.frontProxy}, "etcd": {a.Etcd, &set.etcd}} {
		certificate, err := cluster.ParseCertificate(part.from.Certificate)
		if err != nil {
			return Set{}, fmt.Errorf("reading the certificate of authority %s: it is %w", name, err)
		}
		key, err := cluster.ParsePrivateKey(part.from.Key.Reveal())
		if err != nil {
			return Set{}, fmt.Errorf("reading the key of authority %s: it is %w", name, err)
		}
		if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certificate.PublicKey) {
			return Set{}, fmt.Errorf("reading the key of authority %s: it does not belong to the certificate", name)
		}
		*part.into = pair{certificate: certificate, key: key}
	}
	key, err := cluster.ParsePrivateKey(a.ServiceAccount.Key.Reveal())
	if err != nil {
		return Set{}, fmt.Errorf("reading the service accounts' key: it is %w", err)
	}
	set.accounts = key
	return set, nil
}

// Register signs what a node may be, with the cluster's authority.
func (s Set) Register(statement cluster.Statement) (string, error) {
	return statement.Sign(s.cluster.key)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newAuthority(name string, now time.Time) (pair, error) {
	key, err := newKey()
	if err != nil {
		return pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(Lifetime),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, err := sign(template, template, key.Public(), key)
	return pair{certificate: certificate, key: key}, err
}

// sign fills in a random serial number; times are whole seconds, which is all that a certificate holds.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Client makes a certificate for a user in groups, signed by the cluster's authority, and its key.
func (s Set) Client(user string, groups []string) (cluster.KeyPair, error) {
	key, err := newKey()
	if err != nil {
		return cluster.KeyPair{}, fmt.Errorf("making the key of %s: %w", user, err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		NotBefore:   s.cluster.certificate.NotBefore,
		NotAfter:    s.made.Add(ClientLifetime),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	certificate, err := sign(template, s.cluster.certificate, key.Public(), s.cluster.key)
	if err != nil {
		return cluster.KeyPair{}, fmt.Errorf("signing the certificate of %s: %w", user, err)
	}
	return pair{certificate: certificate, key: key}.document()
}

// Authorities renders the set for an identity of a control plane.
func (s Set) Authorities() (cluster.Authorities, error) {
	var out cluster.Authorities
	for into, from := range map[*cluster.KeyPair]pair{&out.Cluster: s.cluster, &out.FrontProxy: s.frontProxy, &out.Etcd: s.etcd} {
		rendered, err := from.document()
		if err != nil {
			return cluster.Authorities{}, err
		}
		*into = rendered
	}
	key, err := keyPEM(s.accounts)
	if err != nil {
		return cluster.Authorities{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(s.accounts.Public())
	if err != nil {
		return cluster.Authorities{}, fmt.Errorf("rendering the service accounts' public key: %w", err)
	}
	out.ServiceAccount = cluster.ServiceAccountKey{Public: block("PUBLIC KEY", public), Key: key}
	return out, nil
}

// Certificate is the cluster's authority as PEM, which clients check the API server against.
func (s Set) Certificate() string { return block("CERTIFICATE", s.cluster.certificate.Raw) }

func (p pair) document() (cluster.KeyPair, error) {
	key, err := keyPEM(p.key)
	return cluster.KeyPair{Certificate: block("CERTIFICATE", p.certificate.Raw), Key: key}, err
}

// keyPEM uses the form that kubeadm writes for such a key (client-go, util/keyutil).
func keyPEM(key crypto.Signer) (document.Secret, error) {
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return document.Secret{}, fmt.Errorf("rendering a key: %w", err)
		}
		return document.NewSecret(block("EC PRIVATE KEY", der)), nil
	case *rsa.PrivateKey:
		return document.NewSecret(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))), nil
	}
	return document.Secret{}, fmt.Errorf("rendering a key: kubeadm knows no keys of type %T", key)
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
