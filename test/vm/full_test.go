//go:build machine && full

package vm_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
)

// TestMalformedIdentity: every problem of the document is on the console.
func TestMalformedIdentity(t *testing.T) {
	w := newWorld(t)
	config := changed(t, w.identity(t, 6443), func(document map[string]any) {
		node := within(document, "node")
		node["address"], node["initialize"] = "nowhere", true
	})
	w.refuses(t, vm.Options{Dir: w.place(t, "malformed-identity"), Ignition: config}, "node.address", "node.initialize")
}

// TestPowerCuts pulls the plug at several points of a first boot; the next boot goes on, and the node becomes Ready.
func TestPowerCuts(t *testing.T) {
	w := newWorld(t)
	checker := w.checkerDisk(t)
	port := freePort(t)
	identity := w.identity(t, port)
	options := vm.Options{Dir: w.place(t, "power-cuts"), Ignition: filepath.Join(identity, "config.ign"), APIPort: port}
	for _, cut := range []struct{ what, pattern string }{
		{"systemd's first lines", `systemd\[1\]: `},
		{"the container images", `^container-images: `},
		{"kubeadm's certificates", `^kubeadm-init: .*\[certs\]`},
		{"the control plane's static pods", `^kubeadm-init: .*\[(control-plane|wait-control-plane|kubelet-start)\]`},
	} {
		m := w.boot(t, options)
		expect(t, m, cut.what, cut.pattern, firstBootTime)
		// A moment later, in the middle of what the line announces.
		time.Sleep(700 * time.Millisecond)
		m.Kill()
	}
	m := w.boot(t, withChecker(options, checker, "--resumed"))
	if _, err := m.Console().Ready(t.Context(), firstBootTime, vm.Watch{Say: func(at time.Duration, text string) {
		t.Logf("%7s  %s", vm.Clock(at), text)
	}, Quiet: time.Minute}); err != nil {
		t.Fatal(err)
	}
	passes(t, m, checkTime)
}
