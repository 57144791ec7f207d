package endpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/document"
)

const (
	tokenID = "abcdef"
	token   = tokenID + ".0123456789abcdef"
	version = "v1.36.3"
)

// authority signs what a test needs.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newAuthority has the name that kubeadm gives to all of them: only the keys differ.
func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key}
}

// serving makes a server's certificate; change may spoil it.
func (a authority) serving(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if change != nil {
		change(template)
	}
	key := newKey(t)
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func (a authority) kubeconfig() string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	return "clusters: [{name: '', cluster: {server: 'https://x', certificate-authority-data: " + base64.StdEncoding.EncodeToString(text) + "}}]\n"
}

// api is an API server that has a few objects. Its fields are what a test changes.
type api struct {
	t *testing.T
	// objects maps paths to what is there: a JSON document, a func(http.ResponseWriter), or a status code.
	objects map[string]any
	// token is the one that it takes; empty takes none.
	token string
}

// newAPI is a founded cluster that takes the token.
func newAPI(t *testing.T, a authority) *api {
	return &api{t: t, token: token, objects: map[string]any{
		pathClusterInfo:   data(map[string]string{"kubeconfig": a.kubeconfig(), signaturePrefix + tokenID: "e30..x"}),
		pathKubeadmConfig: data(map[string]string{"ClusterConfiguration": "kind: ClusterConfiguration\nkubernetesVersion: " + version + "\n"}),
		pathRecord:        data(map[string]string{"founder": "cp1", "release": "v1.36", "kubernetes": version, "tokens": `{"abcdef":""}`}),
	}}
}

func data(values map[string]string) string {
	text, _ := json.Marshal(map[string]any{"kind": "ConfigMap", "data": values})
	return string(text)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	public := strings.Contains(r.URL.Path, "/kube-public/")
	switch presented := r.Header.Get("Authorization"); {
	case public && presented != "":
		a.t.Errorf("the token was sent for %s, which needs none", r.URL.Path)
	case !public && (a.token == "" || presented != "Bearer "+a.token):
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch object := a.objects[r.URL.Path].(type) {
	case nil:
		w.WriteHeader(http.StatusNotFound)
	case int:
		w.WriteHeader(object)
	case func(http.ResponseWriter):
		object(w)
	case string:
		_, _ = io.WriteString(w, object)
	}
}

// start serves handler with certificate on loopback and returns host:port.
func start(t *testing.T, handler http.Handler, certificate tls.Certificate) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// listen runs handle for each connection to a port on loopback.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
	return listener.Addr().String()
}

func joiner(a authority, endpoint string) Cluster {
	return Cluster{Endpoint: endpoint, Authority: a.certificate, Token: document.NewSecret(token), Baked: version, Node: "w1",
		Machine: Machine{ID: "0badc0de", UUID: "AAAA-1"}}
}
