package cluster

import (
	"crypto"
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
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/document"
)

const secretToken = "abcdef.0123456789abcdef"

const good = `apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node:
  name: cp1
  role: control-plane
  initialise: true
  address: 10.0.0.11
  labels: {topology.kubernetes.io/zone: a, example.org/rack: r7, empty: ""}
  taints: [{key: example.org/gpu, value: a100, effect: NoSchedule}]
  providerID: aws:///eu-west-1a/i-0123
cluster:
  name: demo
  endpoint: api.example.org:6443
  certificateNames: [api.example.org, "*.example.org", 192.0.2.7, "fd00::1"]
bootstrap:
  token: ` + secretToken + `
`

func TestGoodIdentity(t *testing.T) {
	id, err := ParseIdentity("id.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if id.Cluster.PodSubnet != DefaultPodSubnet || id.Bootstrap.Token.Reveal() != secretToken {
		t.Errorf("have %+v", id)
	}
}

func TestIdentityProblems(t *testing.T) {
	tests := []struct {
		name string
		// old becomes new in the good identity.
		old, new string
		want     []string
	}{
		{"no release", "release: v1.36\n", "", []string{"release: missing"}},
		{"name", "name: cp1", "name: CP_1", []string{`node.name: "CP_1" is not allowed; want a DNS label`}},
		{"long name", "name: cp1", "name: " + strings.Repeat("a", 64), []string{"node.name: "}},
		{"role", "role: control-plane", "role: master", []string{`node.role: unknown "master"; want control-plane or worker`}},
		{"worker that initialises", "role: control-plane", "role: worker", []string{"node.initialise: only a control-plane node"}},
		{"no address", "  address: 10.0.0.11\n", "", []string{"node.address: missing"}},
		{"address", "10.0.0.11", "10.0.0", []string{`node.address: "10.0.0" is not an IP address`}},
		{"loopback", "10.0.0.11", "127.0.0.1", []string{"node.address: 127.0.0.1 cannot be reached"}},
		{"label key", "example.org/rack", "example.org/-rack", []string{"node.labels.example.org/-rack: is not a label's name"}},
		{"label prefix", "example.org/rack", "Example_org/rack", []string{"is not a label's name"}},
		{"label value", "rack: r7", `rack: "r 7"`, []string{"node.labels.example.org/rack: has a value that is not a label's"}},
		{"role label", "example.org/rack", "node-role.kubernetes.io/worker", []string{"role labels are not set by hand; the node gets its role label"}},
		{"own label", "example.org/rack", "kiln.dev/profile", []string{"labels below kiln.dev/ are set by the node itself"}},
		{"taint effect", "effect: NoSchedule", "effect: Never", []string{`node.taints[0].effect: unknown "Never"; want NoSchedule, PreferNoSchedule or NoExecute`}},
		{"taint key", "key: example.org/gpu", `key: ""`, []string{"node.taints[0].key: missing"}},
		{"taint twice", "taints: [", "taints: [{key: example.org/gpu, effect: NoSchedule}, ", []string{"node.taints[1]: a taint with this key and effect is given before"}},
		{"provider ID", "aws:///eu-west-1a/i-0123", "'aws $(x)'", []string{"node.providerID: holds a space"}},
		{"cluster name", "name: demo", "name: De mo", []string{"cluster.name: "}},
		{"no endpoint", "  endpoint: api.example.org:6443\n", "", []string{"cluster.endpoint: missing"}},
		{"endpoint without port", "api.example.org:6443", "api.example.org", []string{"cluster.endpoint: \"api.example.org\" has no host and port"}},
		{"endpoint port", "org:6443", "org:70000", []string{`cluster.endpoint: "70000" is not a port`}},
		{"endpoint host", "api.example.org:6443", "api_example:6443", []string{`cluster.endpoint: "api_example" is neither`}},
		{"certificate name", "192.0.2.7", `""`, []string{"cluster.certificateNames[2]: missing"}},
		{"certificate name form", "192.0.2.7", "a..b", []string{`cluster.certificateNames[2]: "a..b" is not allowed`}},
		{"subnet", "  name: demo", "  name: demo\n  podSubnet: 10.244.0.0", []string{`cluster.podSubnet: "10.244.0.0" is not a subnet`}},
		{"host bits", "  name: demo", "  name: demo\n  podSubnet: 10.244.1.0/16", []string{"cluster.podSubnet: 10.244.1.0/16 has host bits set; want 10.244.0.0/16"}},
		{"overlap", "  name: demo", "  name: demo\n  podSubnet: 10.96.0.0/16", []string{"cluster.serviceSubnet: 10.96.0.0/12 overlaps cluster.podSubnet"}},
		{"address in subnet", "10.0.0.11", "10.244.3.1", []string{"node.address: 10.244.3.1 lies in cluster.podSubnet 10.244.0.0/16"}},
		{"endpoint in subnet", "api.example.org:6443", "10.96.0.1:6443", []string{"cluster.endpoint: 10.96.0.1 lies in cluster.serviceSubnet"}},
		{"families", "10.0.0.11", "fd00::11", []string{"node.address: fd00::11 and cluster.serviceSubnet 10.96.0.0/12 are of different"}},
		{"pod bits", "  name: demo", "  name: demo\n  podSubnet: 10.244.0.0/25", []string{"want a prefix from /8 to /24"}},
		{"service bits", "  name: demo", "  name: demo\n  serviceSubnet: 10.96.0.0/29", []string{"want a prefix from /12 to /28"}},
		{"domain", "  name: demo", "  name: demo\n  dnsDomain: cluster_local", []string{"cluster.dnsDomain: "}},
		{"two subnets", "  name: demo", "  name: demo\n  podSubnet: '10.244.0.0/16,fd00:1::/56'", []string{"cluster.serviceSubnet: 10.96.0.0/12 and cluster.podSubnet"}},
		{"secondary address", "address: 10.0.0.11", "address: 10.0.0.11\n  secondaryAddress: 'fd00::11'", []string{"node.secondaryAddress: is set, but the cluster is not dual-stack"}},
		{"subnet of a node", "address: 10.0.0.11", "address: 10.0.0.11\n  subnet: 10.0.0.0/24", []string{"node.subnet: is for the members of a pool"}},
		{"match", "address: 10.0.0.11", "address: 10.0.0.11\n  match: {mac: x}", []string{`node.match.mac: "x" is not a hardware address`}},
		{"zone", "address: 10.0.0.11", "address: 10.0.0.11\n  zone: b", []string{`node.labels.topology.kubernetes.io/zone: says "a", but zone says "b"`}},
		{"region", "address: 10.0.0.11", "address: 10.0.0.11\n  region: a b", []string{`node.region: "a b" is not a label's value`}},
		{"kubelet", "address: 10.0.0.11", "address: 10.0.0.11\n  kubelet: {clusterDNS: []}", []string{"node.kubelet.clusterDNS: is not to be set here"}},
		{"registration", "address: 10.0.0.11", "address: 10.0.0.11\n  registration: a b.c", []string{"node.registration: is not a signed statement"}},
		{"control plane in a pool", "address: 10.0.0.11", "address: 10.0.0.11\n  pool: p", []string{"node.pool: is set on a control plane"}},
		{"customisation", "  name: demo", "  name: demo\n  customisation: {etcd: {extraArgs: [{name: data-dir, value: x}]}}", []string{"cluster.customisation.etcd.extraArgs[0].name: data-dir is not to be set"}},
		{"patch", "  name: demo", "  name: demo\n  customisation: {patches: {x.yaml: '{}'}}", []string{"cluster.customisation.patches.x.yaml: is not the name"}},
		{"planned control planes", "  name: demo", "  name: demo\n  controlPlanes: [{name: cp1, address: 10.0.0.11}, {name: cp1, address: 10.0.0.11}, {name: CP, address: x}]", []string{
			"cluster.controlPlanes[1].name: cp1 is cluster.controlPlanes[0].name already", "cluster.controlPlanes[1].address: 10.0.0.11 is",
			`cluster.controlPlanes[2].name: "CP" is not allowed`, `cluster.controlPlanes[2].address: "x" is not`}},
		{"TTL", "  token: ", "  tokenTTL: soon\n  token: ", []string{`bootstrap.tokenTTL: "soon" is not a length of time`}},
		{"certificate key", "  token: ", "  certificateKey: 0123\n  token: ", []string{"bootstrap.certificateKey: want text"}},
		{"short certificate key", "  token: ", "  certificateKey: '0123'\n  token: ", []string{"bootstrap.certificateKey: is not a certificate key; want 64"}},
		{"no token", "  token: " + secretToken, "  token: ''", []string{"bootstrap.token: missing"}},
		{"token", secretToken, secretToken + "0", []string{"bootstrap.token: is not a bootstrap token"}},
		{"token of another type", "  token: " + secretToken, "  token: [" + secretToken + "]", []string{"bootstrap.token: want text"}},
		{"token one level too high", "\n  token: " + secretToken, " " + secretToken, []string{"bootstrap: want a mapping"}},
		{"all at once", good[strings.Index(good, "release"):], "node: {}\n", []string{"release: missing", "node.name: missing", "node.role: missing",
			"node.address: missing", "cluster.name: missing", "cluster.endpoint: missing", "bootstrap.token: missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("the good identity lacks %q", tt.old)
			}
			_, err := ParseIdentity("id.yaml", []byte(strings.Replace(good, tt.old, tt.new, 1)))
			if !document.IsInvalid(err) {
				t.Fatalf("have %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), secretToken[7:]) {
				t.Errorf("message shows the token:\n%v", err)
			}
			if lines := strings.Split(err.Error(), "\n"); len(lines) != len(tt.want) {
				t.Errorf("have %d problems, want %d:\n%v", len(lines), len(tt.want), err)
			}
		})
	}
}

func TestIdentityShowsNoSecrets(t *testing.T) {
	key := pemKey(t, newECDSA(t), false)
	id, err := ParseIdentity("id.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	id.Bootstrap.Authorities = &Authorities{Cluster: KeyPair{Key: document.NewSecret(key)}}
	asJSON, err := json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(asJSON), string(asYAML), fmt.Sprintf("%v %+v %#v %s", id, id, id, id.Bootstrap.Token), fmt.Sprint(&id)} {
		if strings.Contains(text, secretToken[7:]) || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("shows a secret: %s", text)
		}
	}
}

func newECDSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pemKey writes a private key as PKCS #8, or in the older form of its kind.
func pemKey(t *testing.T, key crypto.Signer, old bool) string {
	t.Helper()
	kind, der, err := "PRIVATE KEY", []byte(nil), error(nil)
	switch own, isRSA := key.(*rsa.PrivateKey); {
	case !old:
		der, err = x509.MarshalPKCS8PrivateKey(key)
	case isRSA:
		kind, der = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(own)
	default:
		kind = "EC PRIVATE KEY"
		der, err = x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pemCertificate(t *testing.T, key crypto.Signer, isCA bool) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(2000000000, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func pemPublic(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func TestAuthorities(t *testing.T) {
	ec, other := newECDSA(t), newECDSA(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	whole := func() Authorities {
		return Authorities{
			Cluster:        KeyPair{pemCertificate(t, ec, true), document.NewSecret(pemKey(t, ec, false))},
			FrontProxy:     KeyPair{pemCertificate(t, ec, true), document.NewSecret(pemKey(t, ec, true))},
			Etcd:           KeyPair{pemCertificate(t, rsaKey, true), document.NewSecret(pemKey(t, rsaKey, true))},
			ServiceAccount: ServiceAccountKey{pemPublic(t, rsaKey), document.NewSecret(pemKey(t, rsaKey, false))},
		}
	}
	tests := []struct {
		name, role string
		change     func(a *Authorities)
		want       string
	}{
		{"whole", "control-plane", func(*Authorities) {}, ""},
		{"leaf", "control-plane", func(a *Authorities) { a.Etcd.Certificate = pemCertificate(t, rsaKey, false) }, "bootstrap.authorities.etcd.certificate: is not a certificate authority's"},
		{"other key", "control-plane", func(a *Authorities) { a.Cluster.Key = document.NewSecret(pemKey(t, other, false)) }, "bootstrap.authorities.cluster.key: does not belong to the certificate"},
		{"other kind of key", "control-plane", func(a *Authorities) { a.Cluster.Key = document.NewSecret(pemKey(t, rsaKey, false)) }, "cluster.key: does not belong"},
		{"no certificate", "control-plane", func(a *Authorities) { a.FrontProxy.Certificate = "" }, "bootstrap.authorities.frontProxy.certificate: missing"},
		{"no key", "control-plane", func(a *Authorities) { a.FrontProxy.Key = document.Secret{} }, "bootstrap.authorities.frontProxy.key: missing"},
		{"not PEM", "control-plane", func(a *Authorities) { a.Etcd.Key = document.NewSecret("hunter2") }, "etcd.key: cannot be read; want one private key as PEM"},
		{"two certificates", "control-plane", func(a *Authorities) { a.Etcd.Certificate += a.Etcd.Certificate }, "etcd.certificate: holds more than one PEM block"},
		{"public key of another", "control-plane", func(a *Authorities) { a.ServiceAccount.Public = pemPublic(t, ec) }, "serviceAccount.key: does not belong to the public key"},
		{"no public key", "control-plane", func(a *Authorities) { a.ServiceAccount.Public = "" }, "serviceAccount.public: missing"},
		{"worker with a key", "worker", func(a *Authorities) {
			*a = Authorities{Cluster: a.Cluster}
		}, "cluster.key: a worker must not hold it"},
		{"worker with the certificate only", "worker", func(a *Authorities) {
			*a = Authorities{Cluster: KeyPair{Certificate: a.Cluster.Certificate}}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := whole()
			tt.change(&a)
			problems := &document.Problems{File: "id.yaml"}
			checkAuthorities(problems, a, tt.role)
			err := problems.Err()
			if tt.want == "" {
				if err != nil {
					t.Fatalf("have %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("have %v, want one problem: %s", err, tt.want)
			}
		})
	}
}
