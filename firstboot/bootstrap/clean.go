package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// kubeconfigs are those that kubeadm writes to nodefs.Kubernetes.
func kubeconfigs() []string {
	return []string{"admin.conf", "super-admin.conf", "kubelet.conf", "bootstrap-kubelet.conf", "controller-manager.conf", "scheduler.conf"}
}

// kubeletCertificates are those that the kubelet gets for itself, with the link to the newest.
const kubeletCertificates = nodefs.KubeletState + "/pki/*"

// authorityPairs are the files below nodefs.PKI that outlive a clean-up, two and two.
func authorityPairs() [][2]string {
	return [][2]string{{"ca.crt", "ca.key"}, {"front-proxy-ca.crt", "front-proxy-ca.key"}, {"etcd/ca.crt", "etcd/ca.key"}, {"sa.pub", "sa.key"}}
}

// clean removes what a run without etcd data has left, so that kubeadm begins anew: static pods, kubeconfigs and leaf
// certificates (which may name an address that has changed), the kubelet's own certificate, which may be torn or another
// cluster's, but no authority that is whole. step is the one that it is done for.
func (p plan) clean(ctx context.Context, step string) error {
	leftovers, err := p.m.leftovers()
	if err != nil {
		return fmt.Errorf("looking for leftovers of an earlier run: %w", err)
	}
	if len(leftovers) == 0 {
		return p.m.removeEtcdRemnants()
	}
	p.m.Report.say(event{step: step, message: fmt.Sprintf("removing %d files of an earlier run that came to nothing", len(leftovers))})
	// A kubelet that runs holds a port that kubeadm wants to find free, and would start the pods again.
	if err := p.m.kubelet(ctx, "stop"); err != nil {
		return err
	}
	r, err := p.m.runtime()
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.removePods(ctx); err != nil {
		return err
	}
	// The files after the pods: as long as there are any, this is done again from its beginning.
	for _, path := range leftovers {
		if err := removeFile(path); err != nil {
			return err
		}
	}
	return p.m.removeEtcdRemnants()
}

// removeEtcdRemnants removes what an etcd that never took part in anything has left: one whose log has only begun would wait
// for ever, and kubeadm wants the directory empty. None may run: its log would go on while it is looked at.
func (m *Machine) removeEtcdRemnants() error {
	if m.hasLog() {
		return nil
	}
	if err := os.RemoveAll(m.Root.Path(kubeadm.EtcdData + "/member")); err != nil {
		return fmt.Errorf("removing leftovers of an earlier run: %w", err)
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing leftovers of an earlier run: %w", err)
	}
	return nil
}

// leftovers lists the files that clean removes.
func (m *Machine) leftovers() ([]string, error) {
	var paths []string
	manifests, err := filepath.Glob(m.Root.Path(nodefs.Manifests + "/*.yaml"))
	if err != nil {
		return nil, err
	}
	paths = append(paths, manifests...)
	for _, name := range kubeconfigs() {
		if path := m.Root.Path(nodefs.Kubernetes + "/" + name); exists(path) {
			paths = append(paths, path)
		}
	}
	for _, pattern := range []string{kubeletCertificates, kubeletConfiguration, kubeletFlags} {
		found, err := filepath.Glob(m.Root.Path(pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	keep := map[string]bool{}
	for _, pair := range authorityPairs() {
		first, second := m.Root.Path(filepath.Join(nodefs.PKI, pair[0])), m.Root.Path(filepath.Join(nodefs.PKI, pair[1]))
		// Half a pair is worse than none: kubeadm would take it for an external authority.
		keep[first] = filled(first) && filled(second)
		keep[second] = keep[first]
	}
	err = filepath.WalkDir(m.Root.Path(nodefs.PKI), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !entry.IsDir() && !keep[path]:
			paths = append(paths, path)
		}
		return nil
	})
	return paths, err
}

// removeTorn removes the files that a power cut has left empty, where kubeadm makes them again. An empty authority
// cannot be made again: the certificates of the etcd data hang on it.
func (m *Machine) removeTorn() error {
	for _, pair := range authorityPairs() {
		for _, name := range pair {
			if path := m.Root.Path(filepath.Join(nodefs.PKI, name)); exists(path) && !filled(path) {
				return Permanent{fmt.Errorf("%s is empty, and there is etcd data that hangs on it; copy the file from a backup, or wipe the state partition to found the cluster anew",
					filepath.Join(nodefs.PKI, name))}
			}
		}
	}
	return m.removeTornFiles()
}

// removeTornFiles removes every empty file that kubeadm writes.
func (m *Machine) removeTornFiles() error {
	return filepath.WalkDir(m.Root.Path(nodefs.Kubernetes), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for torn files: %w", err)
		}
		if entry.Type().IsRegular() && !filled(path) {
			return os.Remove(path)
		}
		return nil
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
