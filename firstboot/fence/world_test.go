package fence

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

// pair makes a certificate authority as an identity has it.
func pair(t *testing.T) cluster.KeyPair {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cluster.KeyPair{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})),
		Key: document.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// world is a cluster to be: cp1, cp2 and cp3 on 127.0.0.11 to 13, behind a balancer on 127.0.0.10 that does not run.
type world struct {
	t             *testing.T
	pair          cluster.KeyPair
	port, apiPort string
	planned       []cluster.ControlPlane
}

func newWorld(t *testing.T) world {
	w := world{t: t, pair: pair(t), port: freePort(t), apiPort: freePort(t)}
	for i := 1; i <= 3; i++ {
		w.planned = append(w.planned, cluster.ControlPlane{Name: fmt.Sprint("cp", i), Address: fmt.Sprint("127.0.0.1", i)})
	}
	return w
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// quick is quick where only a dead address would be waited for.
func quick() Pace {
	return Pace{Connect: 5 * time.Second, Round: 20 * time.Millisecond, Linger: 300 * time.Millisecond, Record: 300 * time.Millisecond}
}

// node is the options of planned control plane i.
func (w world) node(i int) Options {
	w.t.Helper()
	authority, key, err := ParsePair(w.pair)
	if err != nil {
		w.t.Fatal(err)
	}
	return Options{Name: w.planned[i-1].Name, Address: w.planned[i-1].Address, Nonce: NewNonce(), Authority: authority, Key: key,
		Endpoint: "127.0.0.10:" + w.apiPort, ControlPlanes: w.planned, Port: w.port, APIPort: w.apiPort, Pace: quick(),
		Say: func(line string) { w.t.Log(line) }}
}

// api serves an API server with a certificate of pair at host; record is the founder in its public record, shown says
// whether there is one, and code is what it answers otherwise.
type api struct {
	founder string
	code    int
	asked   atomic.Int32
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	data := map[string]string{"kubeconfig": "{}"}
	switch {
	case a.code != 0:
		w.WriteHeader(a.code)
		return
	case r.URL.Path == "/api/v1/namespaces/kube-public/configmaps/kiln" && a.founder == "":
		w.WriteHeader(http.StatusNotFound)
		return
	case r.URL.Path == "/api/v1/namespaces/kube-public/configmaps/kiln":
		data = map[string]string{"founder": a.founder}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

func (w world) serve(a *api, of cluster.KeyPair, address string) {
	w.t.Helper()
	authority, signer, err := ParsePair(of)
	if err != nil {
		w.t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(address)
	key := newKey(w.t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.ParseIP(host)}}
	raw, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), signer)
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(a)
	_ = server.Listener.Close()
	server.Listener, server.Config.ErrorLog = listener, log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}
	server.StartTLS()
	w.t.Cleanup(server.Close)
}

// decided is how a Decide ended.
type decided struct {
	Decision
	err error
}

// decide runs Decide within the time in which a test may fail.
func decide(t *testing.T, o Options) decided {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("the test ran out of time"))
	defer cancel()
	d, err := Decide(ctx, o)
	t.Cleanup(d.Claim.Close)
	return decided{d, err}
}

func (d decided) rival(t *testing.T) *Rival {
	t.Helper()
	rival, ok := errors.AsType[*Rival](d.err)
	if !ok {
		t.Fatalf("decided %+v, %v; want a rival", d.Decision, d.err)
	}
	return rival
}

func (d decided) want(t *testing.T, action Action) {
	t.Helper()
	if d.err != nil || d.Action != action {
		t.Fatalf("decided %+v, %v; want action %d", d.Decision, d.err, action)
	}
}
