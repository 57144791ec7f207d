package mint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

func authority(t *testing.T, kind string) Pair {
	t.Helper()
	var der []byte
	var public, key any
	label := "PRIVATE KEY"
	if strings.HasPrefix(kind, "RSA") {
		own, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		public, key = own.Public(), own
		der, label = x509.MarshalPKCS1PrivateKey(own), "RSA PRIVATE KEY"
	} else {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, key = own.Public(), own
		if der, err = x509.MarshalECPrivateKey(own); err != nil {
			t.Fatal(err)
		}
		label = "EC PRIVATE KEY"
	}
	if strings.HasSuffix(kind, "PKCS #8") {
		var err error
		if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
		label = "PRIVATE KEY"
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-240 * time.Hour), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})}
}

func TestClient(t *testing.T) {
	for _, kind := range []string{"RSA", "RSA PKCS #8", "EC", "EC PKCS #8"} {
		t.Run(kind, func(t *testing.T) {
			ca := authority(t, kind)
			made, err := Client(ca, pkix.Name{CommonName: "me", Organization: []string{"system:masters"}})
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(made.Certificate, made.Key)
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(ca.Certificate)
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
			// A clock that is a week behind still takes it.
			early := x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: time.Now().Add(-168 * time.Hour)}
			if _, err := pair.Leaf.Verify(early); err != nil {
				t.Error(err)
			}
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
				t.Error("it can pass for a server")
			}
			if pair.Leaf.IsCA || pair.Leaf.Subject.CommonName != "me" || pair.Leaf.Subject.Organization[0] != "system:masters" {
				t.Errorf("have %v", pair.Leaf.Subject)
			}
		})
	}
}

func TestAuthoritiesThatCannotSign(t *testing.T) {
	good, other := authority(t, "EC"), authority(t, "EC")
	secret := string(good.Key)
	for name, pair := range map[string]Pair{
		"no certificate":   {nil, good.Key},
		"no key":           {good.Certificate, nil},
		"not a key":        {good.Certificate, good.Certificate},
		"not a certficate": {good.Key, good.Key},
		"another's key":    {good.Certificate, other.Key},
	} {
		made, err := Client(pair, pkix.Name{})
		if err == nil || made.Key != nil || strings.Contains(err.Error(), secret[40:60]) {
			t.Errorf("%s: have %v", name, err)
		}
	}
}
