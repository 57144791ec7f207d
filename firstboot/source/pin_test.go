package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// signed makes a certificate for names and addresses; a nil parent makes an authority that signs itself.
func signed(t *testing.T, parent *x509.Certificate, by *ecdsa.PrivateKey, names ...string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: fmt.Sprint(names)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: parent == nil, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if parent == nil {
		parent, by = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func TestPin(t *testing.T) {
	authority, key := signed(t, nil, nil)
	stranger, strangersKey := signed(t, nil, nil)
	leaf, _ := signed(t, authority, key, "boot.test", "10.0.0.1")
	strangersLeaf, _ := signed(t, stranger, strangersKey, "boot.test")
	of := func(c *x509.Certificate) Pin { return sha256.Sum256(c.Raw) }
	tests := []struct {
		name  string
		pin   Pin
		host  string
		chain []*x509.Certificate
		want  string
	}{
		{"authority", of(authority), "boot.test", []*x509.Certificate{leaf, authority}, ""},
		{"authority, by address", of(authority), "10.0.0.1", []*x509.Certificate{leaf, authority}, ""},
		{"authority, for another name", of(authority), "other.test", []*x509.Certificate{leaf, authority}, "the pinned authority does not vouch for other.test"},
		{"authority that is not sent", of(authority), "boot.test", []*x509.Certificate{leaf}, "boot.test shows other certificates"},
		{"authority beside a stranger's certificate", of(authority), "boot.test", []*x509.Certificate{strangersLeaf, authority}, "does not vouch"},
		{"the certificate itself, whatever its name", of(leaf), "other.test", []*x509.Certificate{leaf}, ""},
		{"a stranger's", of(leaf), "boot.test", []*x509.Certificate{strangersLeaf, stranger}, "shows other certificates (" + of(strangersLeaf).String()},
		{"the certificate behind another", of(leaf), "boot.test", []*x509.Certificate{strangersLeaf, leaf}, "does not vouch"},
		{"none", of(leaf), "boot.test", nil, "shows no certificate"},
	}
	for _, tt := range tests {
		err := tt.pin.Check(tt.host, tt.chain)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: have %v; want %s", tt.name, err, tt.want)
		}
	}
}

func TestPinHasTwoForms(t *testing.T) {
	colons := strings.ToUpper(hex64[:2])
	for i := 2; i < len(hex64); i += 2 {
		colons += ":" + strings.ToUpper(hex64[i:i+2])
	}
	for _, text := range []string{hex64, colons} {
		if pin, err := ParsePin(text); err != nil || pin.String() != hex64 {
			t.Errorf("%s: have %s, %v", text, pin, err)
		}
	}
	for _, text := range []string{"", hex64[2:], hex64 + "00", "x" + hex64[1:]} {
		if _, err := ParsePin(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
