package authority_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

func newSecrets(t *testing.T) authority.Secrets {
	t.Helper()
	s, err := authority.NewSecrets(cluster.Definition{Name: "prod", Nodes: []cluster.DefinedNode{
		{Name: "w1", Role: "worker"}, {Name: "cp1", Role: "control-plane"}, {Name: "cp2", Role: "control-plane", Initialise: true},
	}}, now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretsComeBackWhole(t *testing.T) {
	s := newSecrets(t)
	s.NextToken = document.NewSecret("abcdef.0123456789abcdef")
	if s.Initialiser != "cp2" || !slices.Equal(s.Founding, []string{"cp1", "cp2"}) || !s.Made.Equal(now()) {
		t.Errorf("founded by %s of %q at %s", s.Initialiser, s.Founding, s.Made)
	}
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(s.CertificateKey.Reveal()) {
		t.Error("the certificate key has another form than kubeadm's")
	}
	text, err := s.Render()
	if err != nil || strings.Contains(string(text), "redacted") {
		t.Fatalf("the secrets are rendered without secrets, or %v", err)
	}
	back, err := authority.ParseSecrets("secrets.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Render(); err != nil || string(again) != string(text) {
		t.Errorf("rendering what was read gives something else, %v", err)
	}
	asJSON, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{string(asJSON), fmt.Sprintf("%v %+v %#v", s, s, &s)} {
		for _, hidden := range []string{s.Token.Reveal(), s.NextToken.Reveal(), s.CertificateKey.Reveal(), "PRIVATE KEY"} {
			if strings.Contains(shown, hidden) {
				t.Errorf("shows a secret: %s", shown)
			}
		}
	}
}

func TestBrokenSecrets(t *testing.T) {
	text, err := newSecrets(t).Render()
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	for _, row := range []struct{ summary, text, want string }{
		{"cut", good[:len(good)/2], "secrets.yaml: "},
		{"no token", regexp.MustCompile(`(?m)^token: .*$`).ReplaceAllString(good, "token: ''"), "secrets.yaml: token: missing; put back a copy"},
		{"no keys", regexp.MustCompile(`(?s)key: \|.*?END EC PRIVATE KEY-----`).ReplaceAllString(good, "key: hush-hush"), "secrets.yaml: authorities: reading the key of authority"},
		{"another kind", strings.Replace(good, "kind: Secrets", "kind: Identity", 1), `secrets.yaml: kind: is "Identity"; want Secrets`},
	} {
		if row.text == good {
			t.Fatalf("%s: nothing was changed", row.summary)
		}
		_, err := authority.ParseSecrets("secrets.yaml", []byte(row.text))
		if !document.IsInvalid(err) || !strings.HasPrefix(err.Error(), row.want) || strings.Contains(err.Error(), "hush-hush") || strings.Contains(err.Error(), "MHc") {
			t.Errorf("%s: error is %v", row.summary, err)
		}
	}
}

// An operator may put the authorities of an organisation into the secrets: keys of every kind that kubeadm reads sign.
func TestOpenedAuthoritiesSign(t *testing.T) {
	made, err := newSet(t).Authorities()
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now().AddDate(-1, 0, 0), NotAfter: now().AddDate(9, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	own := made
	own.Cluster = cluster.KeyPair{Certificate: text("CERTIFICATE", der), Key: document.NewSecret(text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))}
	later := now().AddDate(2, 0, 0)
	for summary, authorities := range map[string]cluster.Authorities{"ECDSA": made, "RSA": own} {
		set, err := authority.Open(authorities, later)
		if err != nil {
			t.Fatal(err)
		}
		back, err := set.Authorities()
		if err != nil || back.Cluster.Certificate != authorities.Cluster.Certificate || back.Cluster.Key.Reveal() != authorities.Cluster.Key.Reveal() {
			t.Errorf("%s: the authorities come back as others, %v", summary, err)
		}
		client, err := set.Client("someone", nil)
		if err != nil {
			t.Fatal(err)
		}
		issuer, leaf := certificate(t, authorities.Cluster.Certificate), certificate(t, client.Certificate)
		if err := leaf.CheckSignatureFrom(issuer); err != nil || !leaf.NotAfter.Equal(later.Add(authority.ClientLifetime)) {
			t.Errorf("%s: a client's certificate ends %s, %v", summary, leaf.NotAfter, err)
		}
		signed, err := set.Register(cluster.Statement{Cluster: "prod", Node: "w1"})
		if err != nil {
			t.Fatal(err)
		}
		if statement, err := cluster.VerifyStatement(signed, issuer); err != nil || statement.Node != "w1" {
			t.Errorf("%s: statement %+v, %v", summary, statement, err)
		}
		if again, err := set.Register(cluster.Statement{Cluster: "prod", Node: "w1"}); err != nil || again != signed {
			t.Errorf("%s: signing again gives something else, %v", summary, err)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	made.Etcd.Key = document.NewSecret(text("EC PRIVATE KEY", raw))
	if _, err := authority.Open(made, time.Now()); err == nil || !strings.Contains(err.Error(), "authority etcd") {
		t.Errorf("a key of another certificate: %v", err)
	}
}

func TestKubeconfigThatStands(t *testing.T) {
	set := newSet(t)
	admin := authority.Kubeconfig{Cluster: "prod", Server: "https://10.0.0.10:6443", User: "kubernetes-admin", Groups: []string{"system:masters"}}
	text, err := admin.Render(set)
	if err != nil {
		t.Fatal(err)
	}
	authorities, err := set.Authorities()
	if err != nil {
		t.Fatal(err)
	}
	later, err := authority.Open(authorities, now().AddDate(1, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	renamed := admin
	renamed.Cluster = "other"
	elsewhere := admin
	elsewhere.Server = "https://127.0.0.1:1"
	for _, row := range []struct {
		summary string
		admin   authority.Kubeconfig
		set     authority.Set
		text    []byte
		want    bool
	}{
		{"as it was made", admin, set, text, true}, {"another server", elsewhere, set, text, true}, {"expired", admin, later, text, false},
		{"another cluster's name", renamed, set, text, false}, {"another authority", admin, newSet(t), text, false}, {"half", admin, set, text[:len(text)/2], false}, {"none", admin, set, nil, false},
	} {
		if got := row.admin.Stands(row.text, row.set); got != row.want {
			t.Errorf("%s: stands is %v", row.summary, got)
		}
	}
}
