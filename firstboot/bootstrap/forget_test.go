package bootstrap

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// letIn is a node that has just joined with id: the identity's copy and what kubeadm was given lie about, and what power cuts
// have left of them.
func letIn(t *testing.T, id cluster.Identity) plan {
	t.Helper()
	m := machineOf(t, nodefs.IdentityCopy+" "+token+"\n"+nodefs.KubeadmConfig+" "+token+"\n"+nodefs.Kubernetes+"/tmp/kubeadm-init1/x "+token+"\n"+
		nodefs.Kubernetes+"/bootstrap-kubelet.conf "+token+"\n"+nodefs.KubeletConfig+" kubelet\n"+nodefs.Patches+"/etcd0.yaml {}\n"+
		filepath.Dir(nodefs.IdentityCopy)+"/.identity.json123 "+token+"\n"+filepath.Dir(nodefs.CertificateKeyConfig)+"/.certificate-key.yaml45 "+strings.Repeat("5a", 32)+"\n")
	return plan{m: m, o: kubeadm.Options{Identity: id}}
}

func secretive(initialise bool) cluster.Identity {
	id := cluster.Identity{Header: document.Header{APIVersion: document.APIVersion, Kind: cluster.IdentityKind}, Release: "v1.36", Node: cluster.Node{Name: "cp1", Role: "control-plane", Initialise: initialise, Address: "10.0.2.15"},
		Cluster: cluster.Cluster{Name: "demo", Endpoint: "10.0.2.10:6443"}}
	id.Bootstrap.Token = document.NewSecret(token)
	id.Bootstrap.CertificateKey = document.NewSecret(strings.Repeat("5a", 32))
	id.Bootstrap.Authorities = authoritiesOf("made")
	return id
}

// filesWith lists the files below root that hold text.
func filesWith(t *testing.T, root nodefs.Root, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(string(root), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			found = append(found, strings.TrimPrefix(path, string(root)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestForget(t *testing.T) {
	for _, founder := range []bool{true, false} {
		p := letIn(t, secretive(founder))
		note, err := p.forget(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{token, token[7:], "made-ck", "made-fk", "made-ek", "made-sk"} {
			if at := filesWith(t, p.m.Root, secret); len(at) > 0 {
				t.Errorf("%s is still in %q", secret, at)
			}
		}
		key := filesWith(t, p.m.Root, strings.Repeat("5a", 32))
		if founder != (len(key) == 1 && key[0] == nodefs.CertificateKeyConfig) || !founder && len(key) > 0 {
			t.Errorf("founder %v: the certificate key is in %q", founder, key)
		}
		if strings.Contains(note, "5a5a") || strings.Contains(note, "certificate key") != founder {
			t.Errorf("the note is %q", note)
		}
		left, err := cluster.ReadScrubbed([]byte(p.m.line(nodefs.IdentityCopy)))
		if err != nil {
			t.Fatal(err)
		}
		if left.Node.Name != "cp1" || left.Cluster.Endpoint != "10.0.2.10:6443" || left.Bootstrap.Authorities.Cluster.Certificate != "made-cc" {
			t.Errorf("what is no secret is lost: %s", p.m.line(nodefs.IdentityCopy))
		}
		for path, want := range map[string]bool{nodefs.KubeletConfig: true, nodefs.Patches + "/etcd0.yaml": true, nodefs.KubeadmConfig: false,
			nodefs.Kubernetes + "/tmp": false, nodefs.Kubernetes + "/bootstrap-kubelet.conf": false} {
			if exists(p.m.Root.Path(path)) != want {
				t.Errorf("%s is there: %v", path, !want)
			}
		}
		for _, path := range []string{nodefs.IdentityCopy, nodefs.CertificateKeyConfig} {
			if info, err := os.Stat(p.m.Root.Path(path)); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
		}
	}
}

// A run that was cut off within forget has what is left of the identity, and must not lose the certificate key.
func TestForgetTwice(t *testing.T) {
	p := letIn(t, secretive(true))
	if _, err := p.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := p.m.line(nodefs.CertificateKeyConfig)
	left, err := cluster.ReadScrubbed([]byte(p.m.line(nodefs.IdentityCopy)))
	if err != nil {
		t.Fatal(err)
	}
	p.o.Identity = left
	if _, err := p.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := p.m.line(nodefs.CertificateKeyConfig); after != before || after == "" {
		t.Errorf("have %q, had %q", after, before)
	}
	if id := p.m.copiedName(); id != "cp1" {
		t.Errorf("the copy has %q", id)
	}
}

func TestStatusAfterForget(t *testing.T) {
	p := letIn(t, secretive(true))
	if _, err := p.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, err := ReadStatus(p.m.Root); err != nil || status.Node != "cp1" {
		t.Errorf("have %+v, %v", status, err)
	}
}
