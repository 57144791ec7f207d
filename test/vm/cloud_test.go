//go:build machine

package vm_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/vm"
)

// configDrive makes an OpenStack config drive as Nova does by default: an ISO image called config-2.
func (w world) configDrive(t *testing.T, userData string) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	latest := filepath.Join(tree, "openstack/latest")
	must(t, os.MkdirAll(latest, 0o755))
	text, err := os.ReadFile(userData)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(latest, "user_data"), text, 0o644))
	must(t, os.WriteFile(filepath.Join(latest, "meta_data.json"), []byte(`{"uuid":"00000000-0000-4000-8000-000000000001","hostname":"node-1","availability_zone":"nova"}`), 0o644))
	image := filepath.Join(dir, "config-2.iso")
	w.run(t, w.peers.Command("xorriso", "-as", "mkisofs", "-quiet", "-V", "config-2", "-J", "-r", "-o", image, tree))
	return image
}

// TestConfigDrive boots the image for OpenStack as it is, a qcow2 disk, and finds the identity on a config drive.
func TestConfigDrive(t *testing.T) {
	w := bareWorld(t)
	out := w.build(t, "cloud-qcow2", filepath.Join(w.repo, "out/test-cloud-qcow2"))
	w.addKernel(t)
	drive := w.configDrive(t, filepath.Join(w.identity(t, 6443), "config.ign"))
	m := w.boot(t, vm.Options{Dir: w.place(t, "config-drive"), Disk: filepath.Join(out, bake.FileQCOW2), ExtraDisks: []string{drive}})
	expect(t, m, "systemd starts", switching, firmwareTime)
	expect(t, m, "the identity on the config drive", `^identity: node-1, control-plane, from config drive \(config-2\)`, serviceTime)
	m.Kill()
}
