//go:build machine

package vm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// ended is what the console says when the first boot cannot be done.
const ended = `first-boot: .*cannot be done`

// bad makes an Ignition config from an identity in which a text is replaced.
func bad(t *testing.T, identity string, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(identity, nodefs.IdentityFile))
	must(t, err)
	changed := strings.NewReplacer(replace...).Replace(string(text))
	if changed == string(text) {
		t.Fatalf("the identity has none of %q", replace)
	}
	config, err := authority.Ignition([]byte(changed))
	must(t, err)
	path := filepath.Join(t.TempDir(), "config.ign")
	must(t, os.WriteFile(path, config, 0o600))
	return path
}

// refuses boots a machine whose identity nothing can be done with: the console says why, and kubeadm does not run.
func (w world) refuses(t *testing.T, o vm.Options, says ...string) {
	t.Helper()
	m := w.boot(t, o)
	defer m.Kill()
	expect(t, m, "the end", ended, serviceTime)
	// The rest of the message is on the following lines.
	for _, want := range says {
		found := false
		for _, line := range m.Console().Lines() {
			found = found || strings.Contains(line.Text, want)
		}
		if !found {
			t.Errorf("the console does not say %q; its last lines:\n%s", want, m.Console().Last(30))
		}
	}
	mustNotHaveSaid(t, m, "kubeadm runs", `^kubeadm-init: `)
}

// TestIdentityIsMissing: nothing is guessed, and each place that was looked at is named.
func TestIdentityIsMissing(t *testing.T) {
	w := newWorld(t)
	w.refuses(t, vm.Options{Dir: w.place(t, "no-identity")}, "opt/com.coreos/config", nodefs.LabelIdentity)
}

// TestIdentityOfAnotherImage: both contradictions are named in one boot.
func TestIdentityOfAnotherImage(t *testing.T) {
	w := newWorld(t)
	config := bad(t, w.identity(t, 6443), "release: "+testedRelease, "release: v9.99", "role: control-plane", "role: worker", "initialise: true", "initialise: false")
	w.refuses(t, vm.Options{Dir: w.place(t, "other-identity"), Ignition: config}, "release: is v9.99", "node.role: is worker")
}

// TestIdentityFromPartition: without fw_cfg, a filesystem labelled KILN is the source. The boot is not awaited further.
func TestIdentityFromPartition(t *testing.T) {
	w := newWorld(t)
	identity := w.identity(t, 6443)
	disk := w.filesystem(t, nodefs.LabelIdentity, map[string]string{nodefs.IdentityFile: filepath.Join(identity, nodefs.IdentityFile)})
	m := w.boot(t, vm.Options{Dir: w.place(t, "partition"), ExtraDisks: []string{disk}})
	expect(t, m, "the identity", `^identity: node-1, control-plane, from .*`+nodefs.LabelIdentity, serviceTime)
	m.Kill()
}
