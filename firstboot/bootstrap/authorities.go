package bootstrap

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// authorityFile is one file of the set that kubeadm takes for given.
type authorityFile struct {
	name string
	text string
	mode fs.FileMode
	// field is where in the identity it comes from.
	field string
}

// authorityFiles has both halves of the service account's pair: kubeadm never makes a missing sa.pub.
func authorityFiles(a cluster.Authorities) []authorityFile {
	const at = "bootstrap.authorities."
	return []authorityFile{
		{"ca.crt", a.Cluster.Certificate, 0o644, at + "cluster.certificate"},
		{"ca.key", a.Cluster.Key.Reveal(), 0o600, at + "cluster.key"},
		{"front-proxy-ca.crt", a.FrontProxy.Certificate, 0o644, at + "frontProxy.certificate"},
		{"front-proxy-ca.key", a.FrontProxy.Key.Reveal(), 0o600, at + "frontProxy.key"},
		{"etcd/ca.crt", a.Etcd.Certificate, 0o644, at + "etcd.certificate"},
		{"etcd/ca.key", a.Etcd.Key.Reveal(), 0o600, at + "etcd.key"},
		{"sa.pub", a.ServiceAccount.Public, 0o644, at + "serviceAccount.public"},
		{"sa.key", a.ServiceAccount.Key.Reveal(), 0o600, at + "serviceAccount.key"},
	}
}

// authorities puts the identity's certificate authorities where kubeadm looks for them. It never replaces another one:
// a cluster would not survive that.
func (p plan) authorities(context.Context) (string, error) {
	files := authorityFiles(*p.o.Identity.Bootstrap.Authorities)
	problems := &document.Problems{File: "identity"}
	for _, file := range files {
		path := filepath.Join(nodefs.PKI, file.name)
		have, err := os.ReadFile(p.m.Root.Path(path))
		if err == nil && len(have) > 0 && !bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace([]byte(file.text))) {
			problems.Add(file.field, "differs from %s, which the node already has; give the node the identity that it began with, or wipe its state partition", path)
		}
	}
	if err := problems.Err(); err != nil {
		return "", err
	}
	for _, file := range files {
		path := p.m.Root.Path(filepath.Join(nodefs.PKI, file.name))
		if filled(path) {
			continue
		}
		if err := put(path, []byte(file.text), file.mode); err != nil {
			return "", err
		}
	}
	return "the identity's own, below " + nodefs.PKI, nil
}
