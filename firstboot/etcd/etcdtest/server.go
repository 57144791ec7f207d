// Package etcdtest is the HTTP/JSON gateway of a small etcd for tests: TLS with client certificates, a list of members, and
// etcd's own refusals.
package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/mint"
)

// Server answers for one member, or for all.
type Server struct {
	URL string
	// Authority is etcd's own.
	Authority mint.Pair

	mutex    sync.Mutex
	members  []etcd.Member
	requests []string
	fail     func(path string) *etcd.Error
}

// New starts a server with these members that ends with the test.
func New(t testing.TB, members ...etcd.Member) *Server {
	t.Helper()
	s := &Server{members: members}
	pool, certificate := s.certificates(t)
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

func (s *Server) certificates(t testing.TB) (*x509.CertPool, tls.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd-ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.Authority = mint.Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}),
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	own, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.Authority.Certificate)
	return pool, tls.Certificate{Certificate: [][]byte{own}, PrivateKey: key}
}

// Set replaces the members.
func (s *Server) Set(members ...etcd.Member) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.members = members
}

// Members are those that are left.
func (s *Server) Members() []etcd.Member {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]etcd.Member(nil), s.members...)
}

// Requests lists the paths that were asked for.
func (s *Server) Requests() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]string(nil), s.requests...)
}

// Fail makes requests fail with the refusal that decide gives; nil lets one pass.
func (s *Server) Fail(decide func(path string) *etcd.Error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.fail = decide
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests = append(s.requests, r.URL.Path)
	if s.fail != nil {
		if refusal := s.fail(r.URL.Path); refusal != nil {
			refuse(w, refusal)
			return
		}
	}
	var body map[string]any
	if r.Method == http.MethodPost {
		raw, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(raw, &body); err != nil {
			refuse(w, &etcd.Error{Code: 3, Message: err.Error()})
			return
		}
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /health":
		answer(w, map[string]any{"health": "true", "reason": ""})
	case "POST /v3/cluster/member/list":
		if body["linearizable"] != true {
			refuse(w, &etcd.Error{Code: 3, Message: "a list that may be old decides nothing"})
			return
		}
		answer(w, map[string]any{"header": map[string]any{"cluster_id": "1"}, "members": s.members})
	case "POST /v3/cluster/member/remove":
		s.remove(w, body)
	default:
		refuse(w, &etcd.Error{Code: 12, Message: "Not Implemented"})
	}
}

func (s *Server) remove(w http.ResponseWriter, body map[string]any) {
	text, _ := body["ID"].(string)
	id, _ := strconv.ParseUint(text, 10, 64)
	for i, m := range s.members {
		if m.ID == id {
			s.members = append(s.members[:i:i], s.members[i+1:]...)
			answer(w, map[string]any{"members": s.members})
			return
		}
	}
	refuse(w, &etcd.Error{Code: 5, Message: "etcdserver: member not found"})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// refuse answers as grpc-gateway does: the HTTP status that goes with the gRPC code.
func refuse(w http.ResponseWriter, refusal *etcd.Error) {
	status := map[int]int{5: http.StatusNotFound, 9: http.StatusBadRequest, 12: http.StatusNotImplemented, 14: http.StatusServiceUnavailable}[refusal.Code]
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refusal)
}
