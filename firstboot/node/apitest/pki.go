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

// pki is an authority and what it signs.
type pki struct {
	pool        *x509.CertPool
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	authority   []byte
	server      tls.Certificate
	admin       tls.Certificate
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
	p := pki{pool: x509.NewCertPool(), certificate: ca, key: key, authority: encode("CERTIFICATE", der)}
	p.pool.AppendCertsFromPEM(p.authority)
	p.server = p.leaf(t, pkix.Name{CommonName: "kube-apiserver"}, x509.ExtKeyUsageServerAuth)
	p.admin = p.leaf(t, pkix.Name{CommonName: "kubernetes-admin", Organization: []string{masters}}, x509.ExtKeyUsageClientAuth)
	return p
}

// leaf is a certificate for subject on this machine's loopback address.
func (p pki) leaf(t testing.TB, subject pkix.Name, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	own := newKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: p.certificate.NotBefore, NotAfter: p.certificate.NotAfter}, p.certificate, own.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// keyText is a key just made, as PEM.
func keyText(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // a key just made
	}
	return encode("PRIVATE KEY", der)
}

// kubeconfig is the administrator's, in the shape that kubeadm writes; its server does not answer.
func (p pki) kubeconfig() []byte {
	inline := func(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }
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
`, inline(p.authority), inline(encode("CERTIFICATE", p.admin.Certificate[0])), inline(keyText(p.admin.PrivateKey)))
}

// Kubelet is a kubelet's kubeconfig, whose server is this one, in the shape that kubelets write, and the file with
// certificate and key to which it points: /var/lib/kubelet/pki/kubelet-client-current.pem.
func (s *Server) Kubelet(t testing.TB, name string) (kubeconfig, pemFile []byte) {
	t.Helper()
	leaf := s.pki.leaf(t, pkix.Name{CommonName: kubeletPrefix + name, Organization: []string{"system:nodes"}}, x509.ExtKeyUsageClientAuth)
	kubeconfig = fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: default-context
clusters:
- name: demo
  cluster: {server: %q, certificate-authority-data: %s}
contexts:
- name: default-context
  context: {cluster: demo, user: default-auth}
users:
- name: default-auth
  user: {client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem, client-key: /var/lib/kubelet/pki/kubelet-client-current.pem}
`, s.URL, base64.StdEncoding.EncodeToString(s.pki.authority))
	return kubeconfig, append(encode("CERTIFICATE", leaf.Certificate[0]), keyText(leaf.PrivateKey)...)
}

// Authority is the server's certificate authority and its key, as PEM: those of a cluster of its own.
func (s *Server) Authority() (certificate, key []byte) { return s.pki.authority, keyText(s.pki.key) }
