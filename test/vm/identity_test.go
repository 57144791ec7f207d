//go:build machine

package vm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// ended is what the console says when the first boot cannot be done.
const ended = `first-boot: .*cannot be done`

// changed makes an Ignition config from an identity that was changed.
func changed(t *testing.T, identity string, change func(document map[string]any)) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(identity, nodefs.IdentityFile))
	must(t, err)
	var document map[string]any
	must(t, yaml.Unmarshal(text, &document))
	change(document)
	text, err = yaml.Marshal(document)
	must(t, err)
	config, err := authority.Ignition(text)
	must(t, err)
	path := filepath.Join(t.TempDir(), "config.ign")
	must(t, os.WriteFile(path, config, 0o600))
	return path
}

// within finds a mapping in a document.
func within(document map[string]any, path ...string) map[string]any {
	for _, field := range path {
		document = document[field].(map[string]any)
	}
	return document
}

// refuses boots a machine whose identity nothing can be done with: the console says why, and kubeadm does not run.
func (w world) refuses(t *testing.T, o vm.Options, says ...string) {
	t.Helper()
	m := w.boot(t, o)
	defer m.Kill()
	refused(t, m, says...)
}

// refused waits until a machine's first boot cannot be done, and for what it says of that.
func refused(t *testing.T, m *vm.Running, says ...string) {
	t.Helper()
	expect(t, m, "the end", ended, serviceTime)
	for _, want := range says {
		// The rest of the message is on the lines that follow.
		deadline := time.Now().Add(10 * time.Second)
		for !said(m, want) && time.Now().Before(deadline) {
			time.Sleep(100 * time.Millisecond)
		}
		if !said(m, want) {
			t.Errorf("the console does not say %q; its last lines:\n%s", want, m.Console().Last(30))
		}
	}
	mustNotHaveSaid(t, m, "kubeadm runs", `^kubeadm-init: `)
}

func said(m *vm.Running, text string) bool {
	for _, line := range m.Console().Lines() {
		if strings.Contains(line.Text, text) {
			return true
		}
	}
	return false
}

// TestIdentityIsMissing: nothing is guessed, and each place that was looked at is named.
func TestIdentityIsMissing(t *testing.T) {
	w := newWorld(t)
	w.refuses(t, vm.Options{Dir: w.place(t, "no-identity")}, "opt/com.coreos/config", nodefs.LabelIdentity)
}

// TestIdentityOfAnotherImage: both contradictions are named in one boot.
func TestIdentityOfAnotherImage(t *testing.T) {
	w := newWorld(t)
	config := changed(t, w.identity(t, 6443), func(document map[string]any) {
		document["release"] = "v9.99"
		node, authorities := within(document, "node"), within(document, "bootstrap", "authorities")
		node["role"] = "worker"
		delete(node, "initialise")
		// Of the authorities, a worker's identity holds the cluster's certificate and nothing else.
		delete(within(authorities, "cluster"), "key")
		for _, name := range []string{"frontProxy", "etcd", "serviceAccount"} {
			delete(authorities, name)
		}
	})
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
