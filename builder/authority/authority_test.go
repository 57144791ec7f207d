package authority_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

func now() time.Time { return time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) }

func newSet(t *testing.T) authority.Set {
	t.Helper()
	set, err := authority.New(now())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func certificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Fatalf("not one certificate: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAuthorities(t *testing.T) {
	a, err := newSet(t).Authorities()
	if err != nil {
		t.Fatal(err)
	}
	serials := map[string]bool{}
	for name, pair := range map[string]cluster.KeyPair{"kubernetes": a.Cluster, "front-proxy-ca": a.FrontProxy, "etcd-ca": a.Etcd} {
		c := certificate(t, pair.Certificate)
		serials[c.SerialNumber.String()] = true
		if c.Subject.CommonName != name || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || c.CheckSignatureFrom(c) != nil {
			t.Errorf("%s is not a certificate authority signed by itself: %+v", name, c.Subject)
		}
		// A machine whose clock is six days slow has to accept it; kubeadm's five minutes are not enough.
		if c.NotBefore.After(now().AddDate(0, 0, -6)) || c.NotAfter.Before(now().AddDate(9, 0, 0)) {
			t.Errorf("%s is valid from %s to %s", name, c.NotBefore, c.NotAfter)
		}
		block, _ := pem.Decode([]byte(pair.Key.Reveal()))
		if block == nil || block.Type != "EC PRIVATE KEY" {
			t.Fatalf("the key of %s is not one that kubeadm reads", name)
		}
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil || !key.PublicKey.Equal(c.PublicKey) {
			t.Errorf("the key of %s is not the certificate's: %v", name, err)
		}
	}
	if len(serials) != 3 {
		t.Errorf("serial numbers are %v; want three", serials)
	}
	private, _ := pem.Decode([]byte(a.ServiceAccount.Key.Reveal()))
	public, _ := pem.Decode([]byte(a.ServiceAccount.Public))
	if private == nil || public == nil || public.Type != "PUBLIC KEY" {
		t.Fatal("the service accounts' keys are not PEM")
	}
	key, err := x509.ParseECPrivateKey(private.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if half, err := x509.ParsePKIXPublicKey(public.Bytes); err != nil || !key.PublicKey.Equal(half) {
		t.Errorf("the service accounts' keys are not a pair: %v", err)
	}
}

func TestToken(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	seen := map[string]bool{}
	for range 50 {
		token, err := authority.NewToken()
		if err != nil || !form.MatchString(token.Reveal()) {
			t.Fatalf("a token is not of the form, or %v", err)
		}
		seen[token.Reveal()] = true
	}
	if len(seen) != 50 {
		t.Errorf("50 tokens, %d different", len(seen))
	}
}

func TestKubeconfig(t *testing.T) {
	set := newSet(t)
	text, err := authority.Kubeconfig{Cluster: "prod", Server: "https://10.0.0.10:6443", User: "kubernetes-admin", Groups: []string{"system:masters"}}.Render(set)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		CurrentContext string `json:"current-context"`
		Clusters       []struct {
			Name    string
			Cluster struct {
				Server string
				Data   []byte `json:"certificate-authority-data"`
			}
		}
		Contexts []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
		Users []struct {
			Name string
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Clusters) != 1 || len(config.Contexts) != 1 || len(config.Users) != 1 {
		t.Fatalf("the kubeconfig is %+v", config)
	}
	context := config.Contexts[0]
	if config.CurrentContext != context.Name || context.Context.Cluster != config.Clusters[0].Name || context.Context.User != config.Users[0].Name {
		t.Errorf("names do not refer to each other: %s, %+v", config.CurrentContext, context)
	}
	if config.Clusters[0].Cluster.Server != "https://10.0.0.10:6443" {
		t.Errorf("server is %s", config.Clusters[0].Cluster.Server)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(config.Clusters[0].Cluster.Data)
	client := certificate(t, string(config.Users[0].User.Certificate))
	options := x509.VerifyOptions{Roots: pool, CurrentTime: now().AddDate(0, 0, -6), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := client.Verify(options); err != nil {
		t.Errorf("the client's certificate does not verify six days ago: %v", err)
	}
	if fmt.Sprint(client.Subject.Organization) != "[system:masters]" || client.Subject.CommonName != "kubernetes-admin" || client.IsCA {
		t.Errorf("the client is %s", client.Subject)
	}
	block, _ := pem.Decode(config.Users[0].User.Key)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil || !key.PublicKey.Equal(client.PublicKey) {
		t.Errorf("the client's key is not the certificate's: %v", err)
	}
}

func identity(t *testing.T) cluster.Identity {
	t.Helper()
	authorities, err := newSet(t).Authorities()
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Identity{
		Release: "v1.36",
		Node:    cluster.Node{Name: "node-1", Role: "control-plane", Initialise: true, Address: "10.0.2.15"},
		Cluster: cluster.Cluster{Name: "kiln", Endpoint: "10.0.2.15:6443", CertificateNames: []string{"127.0.0.1"}},
		Bootstrap: cluster.Bootstrap{
			Token: document.NewSecret("abcdef.0123456789abcdef"), Authorities: &authorities,
		},
	}
}

func TestIdentityComesBackWhole(t *testing.T) {
	want := identity(t)
	text, err := authority.RenderIdentity("identity.yaml", want)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "redacted") {
		t.Fatalf("the identity holds a redacted secret")
	}
	got, err := cluster.ParseIdentity("identity.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Node.Name != "node-1" || !got.Node.Initialise || got.Cluster.CertificateNames[0] != "127.0.0.1" || got.Release != "v1.36" {
		t.Errorf("the identity came back as %+v", got)
	}
	pairs := func(a *cluster.Authorities) string {
		return strings.Join([]string{
			a.Cluster.Certificate, a.Cluster.Key.Reveal(), a.FrontProxy.Certificate, a.FrontProxy.Key.Reveal(), a.Etcd.Certificate,
			a.Etcd.Key.Reveal(), a.ServiceAccount.Public, a.ServiceAccount.Key.Reveal(),
		}, "|")
	}
	if pairs(got.Bootstrap.Authorities) != pairs(want.Bootstrap.Authorities) || got.Bootstrap.Token.Reveal() != want.Bootstrap.Token.Reveal() {
		t.Error("the secrets did not come back as they were")
	}
	// What an EC2 instance takes as user data.
	if ignition, err := authority.Ignition(text); err != nil || len(ignition) > 16<<10 {
		t.Errorf("the Ignition config has %d bytes, %v; want at most 16 KiB", len(ignition), err)
	}
}

func TestIdentityOfAWorkerHasNoKeys(t *testing.T) {
	id := identity(t)
	id.Node.Role, id.Node.Initialise = "worker", false
	id.Bootstrap.Authorities = &cluster.Authorities{Cluster: cluster.KeyPair{Certificate: id.Bootstrap.Authorities.Cluster.Certificate}}
	text, err := authority.RenderIdentity("identity.yaml", id)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "PRIVATE KEY") || strings.Contains(string(text), "etcd:") {
		t.Error("a worker's identity holds a key or an empty authority")
	}
}

func TestIdentityIsCheckedWithoutShowingSecrets(t *testing.T) {
	id := identity(t)
	id.Node.Address = "nowhere"
	id.Bootstrap.Token = document.NewSecret("hush-hush")
	text, err := authority.RenderIdentity("identity.yaml", id)
	if !document.IsInvalid(err) || text != nil {
		t.Fatalf("error is %v; want problems of the document and no text", err)
	}
	if !strings.Contains(err.Error(), "node.address") || !strings.Contains(err.Error(), "bootstrap.token") || strings.Contains(err.Error(), "hush-hush") {
		t.Errorf("error is %v", err)
	}
}

func TestIgnition(t *testing.T) {
	text, err := authority.Ignition([]byte("kind: Identity\n"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Ignition struct{ Version string }
		Storage  struct {
			Files []struct {
				Path     string
				Mode     int
				Contents struct{ Source string }
			}
		}
	}
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if config.Ignition.Version != "3.5.0" || len(config.Storage.Files) != 1 {
		t.Fatalf("config is %+v", config)
	}
	file := config.Storage.Files[0]
	encoded, isData := strings.CutPrefix(file.Contents.Source, "data:;base64,")
	content, err := base64.StdEncoding.DecodeString(encoded)
	if !isData || err != nil || string(content) != "kind: Identity\n" || file.Path != "/etc/kiln/identity.yaml" || file.Mode != 0o600 {
		t.Errorf("file is %+v with content %q, %v", file, content, err)
	}
}
