package plan

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

const (
	pemKey   = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAbc\n-----END EC PRIVATE KEY-----\n"
	identity = "apiVersion: kiln/v1alpha1\nkind: Identity\nrelease: v1.36\nbootstrap: {token: abcdef.0123456789abcdef}\n"
)

func TestSecretIn(t *testing.T) {
	base64ed := base64.StdEncoding.EncodeToString
	for _, row := range []struct{ summary, text, want string }{
		{"key", "x\n" + pemKey, "a private key"},
		{"PKCS #8", "-----BEGIN PRIVATE KEY-----", "a private key"},
		{"encrypted key", "-----BEGIN ENCRYPTED PRIVATE KEY-----", "a private key"},
		{"key in base64", "data: " + base64ed([]byte(pemKey)) + "\n", "a private key"},
		{"identity", identity, "an identity or a cluster's secrets"},
		{"identity as JSON", `{"apiVersion":"kiln/v1alpha1","kind":"Identity"}`, "an identity or a cluster's secrets"},
		{"identity in a data URL", `{"source": "data:;base64,` + base64ed([]byte(identity)) + `"}`, "an identity or a cluster's secrets"},
		{"a cluster's secrets", "kind: Secrets\napiVersion: kiln/v1alpha1\n", "an identity or a cluster's secrets"},
		{"Ignition", `{"ignition":{"version":"3.5.0"},"storage":{"files":[{"path":"/etc/kiln/identity.yaml","contents":{"source":"https://example.org"}}]}}`, "an Ignition config with an identity"},
		{"kubeconfig", "apiVersion: v1\nkind: Config\nusers:\n- user:\n    client-key-data: abcd\n", "a kubeconfig with a user's key"},
		{"kubeconfig with a token", "kind: Config\nusers: [{user: {token: abcd}}]\n", "a kubeconfig with a user's key"},
		{"kubeadm", "apiVersion: kubeadm.k8s.io/v1beta4\nbootstrapTokens:\n- token: abcdef.0123456789abcdef\n", "a bootstrap token"},
		{"token Secret", "type: bootstrap.kubernetes.io/token\n", "a bootstrap token"},
		{"certificate key", "apiVersion: kubeadm.k8s.io/v1beta4\ncertificateKey: " + strings.Repeat("0a", 32), "a certificate key"},

		{"certificate", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", ""},
		{"public key", "-----BEGIN PUBLIC KEY-----\n", ""},
		{"kubeconfig that names files", "kind: Config\nusers: [{user: {client-key: /var/lib/kubelet/pki/x.pem}}]\n", ""},
		{"profile", "apiVersion: kiln/v1alpha1\nkind: Profile\n", ""},
		{"kubeadm without a token", "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n", ""},
		{"host names", "vm.overcommit_memory=1\nabcdef.0123456789abcdef\n", ""},
		{"base64 of nothing secret", base64ed([]byte(strings.Repeat("nothing ", 20))), ""},
	} {
		if got := secretIn(row.text); got != row.want {
			t.Errorf("%s: %q; want %q", row.summary, got, row.want)
		}
	}
}

func TestSecretsStayOutOfImages(t *testing.T) {
	p := Plan{
		Profile: profile.Profile{
			Files:   map[string]string{"/etc/key.pem": pemKey, "/etc/motd": "hello"},
			Patches: map[string]string{"etcd.yaml": "{metadata: {annotations: {a: '" + strings.ReplaceAll(pemKey, "\n", " ") + "'}}}"},
		},
		Release:      release.Release{Addons: []string{"addons/a.yaml", "addons/gone.yaml", "../a.yaml"}},
		ReleaseFiles: fstest.MapFS{"addons/a.yaml": {Data: []byte(identity)}},
	}
	overlay := fstest.MapFS{"etc/hosts": {Data: []byte("127.0.0.1 localhost\n")}, "etc/kiln/identity.yaml": {Data: []byte(identity)}}
	role, pinned := &document.Problems{File: "p.yaml"}, &document.Problems{File: "r.yaml"}
	err := checkSecrets(role, pinned, Documents{Overlay: overlay}, p)
	for _, row := range []struct {
		err  error
		want []string
	}{
		{role.Err(), []string{"p.yaml: files./etc/key.pem: holds a private key; an image is no place", "p.yaml: patches.etcd.yaml: holds a private key"}},
		{pinned.Err(), []string{"r.yaml: addons: addons/a.yaml holds an identity"}},
		{err, []string{"the image's overlay: etc/kiln/identity.yaml: holds an identity"}},
	} {
		if !document.IsInvalid(row.err) {
			t.Fatalf("error is %v; want %q", row.err, row.want)
		}
		lines := strings.Split(row.err.Error(), "\n")
		if len(lines) != len(row.want) {
			t.Fatalf("%d problems; want %d:\n%v", len(lines), len(row.want), row.err)
		}
		for i, want := range row.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("problem is %s; want %s", lines[i], want)
			}
		}
		if strings.Contains(row.err.Error(), "MHcCAQ") {
			t.Errorf("the message shows the key: %v", row.err)
		}
	}
}
