package apitest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"
)

// pki is an authority, a server's certificate and an administrator's.
type pki struct {
	pool      *x509.CertPool
	authority []byte
	server    tls.Certificate
	admin     tls.Certificate
}

func newPKI(t testing.TB) pki {
	t.Helper()
	key := newKey(t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p := pki{pool: x509.NewCertPool(), authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	p.pool.AppendCertsFromPEM(p.authority)
	leaf := func(serial int64, usage x509.ExtKeyUsage) tls.Certificate {
		own := newKey(t)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), ExtKeyUsage: []x509.ExtKeyUsage{usage},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}, ca, own.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
	}
	p.server, p.admin = leaf(2, x509.ExtKeyUsageServerAuth), leaf(3, x509.ExtKeyUsageClientAuth)
	return p
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// kubeconfig is the administrator's, in the shape that kubeadm writes; its server does not answer.
func (p pki) kubeconfig() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(p.admin.PrivateKey)
	if err != nil {
		panic(err) // a key just made
	}
	encode := func(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: kubernetes-admin@demo
clusters:
- name: demo
  cluster: {server: "https://load-balancer.invalid:6443", certificate-authority-data: %s}
contexts:
- name: kubernetes-admin@demo
  context: {cluster: demo, user: kubernetes-admin}
users:
- name: kubernetes-admin
  user: {client-certificate-data: %s, client-key-data: %s}
`, encode(p.authority), encode(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.admin.Certificate[0]})),
		encode(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}
