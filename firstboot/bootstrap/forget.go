package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/reconcile"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// forget is the last step: what the node was let in with leaves the disk. What the node now is lies in Kubernetes' own
// files. The place that the identity came from is not touched: it may serve other nodes, and is the platform's or the
// operator's to clear. What an installer left for this node alone is overwritten. Every part is done anew or not at all when the step runs again.
func (p plan) forget(context.Context) (string, error) {
	note := "the identity's secrets are gone from this node"
	if p.uploads() {
		// First, so that the key is never nowhere while control planes are still expected.
		text, err := reconcile.RenderUpload(reconcile.UploadOptions{Name: p.o.Identity.Node.Name, Address: p.o.Identity.Node.Address,
			Kubernetes: p.o.Baked.Kubernetes, Key: p.o.Identity.Bootstrap.CertificateKey})
		if err != nil {
			return "", err
		}
		if err := put(p.m.Root.Path(nodefs.CertificateKeyConfig), text, 0o600); err != nil {
			return "", err
		}
		note += ", but for the certificate key, until all control planes are in"
	}
	for _, path := range tokenFiles() {
		if err := p.m.remove(path); err != nil {
			return "", err
		}
	}
	if err := p.m.scrubCarried(); err != nil {
		return "", err
	}
	// The identity last: with it, the step can run again whole.
	text, err := json.Marshal(p.o.Identity.Scrubbed())
	if err != nil {
		return "", fmt.Errorf("removing the identity's secrets: %w", err)
	}
	if err := put(p.m.Root.Path(nodefs.IdentityCopy), text, 0o600); err != nil {
		return "", err
	}
	return note, p.m.removePieces(p.m.Root.Path(filepath.Dir(nodefs.IdentityCopy)))
}

// removePieces removes from a directory what power cuts have left of files that were being written there: hidden, under a name
// of their own (renameio). They hold what the files did.
func (m *Machine) removePieces(directory string) error {
	pieces, err := filepath.Glob(filepath.Join(directory, ".*"))
	if err != nil {
		return err
	}
	for _, piece := range pieces {
		if err := os.RemoveAll(piece); err != nil {
			return fmt.Errorf("removing a piece of a file: %w", err)
		}
	}
	return syncDirectory(directory)
}

// uploads tells whether the reconciler of this node has to upload the certificates again for those that still come.
func (p plan) uploads() bool {
	return p.o.Identity.Node.Initialise && !p.o.Identity.Bootstrap.CertificateKey.IsZero()
}

// tokenFiles are the files and directories that hold the bootstrap token, or a copy of something that does.
func tokenFiles() []string {
	return []string{nodefs.Kubernetes + "/tmp", nodefs.Kubernetes + "/bootstrap-kubelet.conf", nodefs.KubeadmConfig, nodefs.KubeadmResumeConfig}
}

// remove removes what is at path, and waits until that is on the disk.
func (m *Machine) remove(path string) error {
	full := m.Root.Path(path)
	if !exists(full) {
		return nil
	}
	if err := os.RemoveAll(full); err != nil {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return syncDirectory(filepath.Dir(full))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

// NoCoreDumps keeps this process's memory, which holds secrets, out of core dumps and from the eyes of other programs
// (prctl(2), PR_SET_DUMPABLE). A program that it starts is its own master again.
func NoCoreDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	return nil
}
