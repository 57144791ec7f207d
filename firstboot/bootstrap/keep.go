package bootstrap

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// keepPause is how often the files that kubeadm writes are looked at. An etcd that was just announced needs longer to
// become a voter, on whose files the quorum then depends.
const keepPause = 300 * time.Millisecond

// keepOnDisk brings what kubeadm writes to the disk soon after it was written, until the function that it returns is
// called. kubeadm itself never waits for the disk: a power cut in the half minute that the kernel takes would leave a voting
// member of etcd with an empty manifest, and a cluster of two members without a quorum.
func (m *Machine) keepOnDisk() (stop func()) {
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		seen := map[string]time.Time{}
		for {
			select {
			case <-end:
				return
			case <-time.After(keepPause):
				m.syncChanged(seen)
			}
		}
	})
	return func() { close(end); running.Wait() }
}

// syncChanged waits for the disk for each file that changed since seen was last brought up to date. It is an aid: what
// cannot be synced is left to the kernel.
func (m *Machine) syncChanged(seen map[string]time.Time) {
	for _, place := range []string{nodefs.Kubernetes, kubeletConfiguration, kubeletFlags, nodefs.KubeletState + "/pki"} {
		_ = filepath.WalkDir(m.Root.Path(place), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil // it was there a moment ago, or is not there yet
			}
			info, err := entry.Info()
			if err != nil || info.Size() == 0 || info.ModTime().Equal(seen[path]) {
				return nil
			}
			if syncFile(path) == nil && syncDirectory(filepath.Dir(path)) == nil {
				seen[path] = info.ModTime()
			}
			return nil
		})
	}
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}
