//go:build machine

package vm_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// How long things may take where every instruction is emulated on two busy cores: several times what was seen.
const (
	firstBootTime = 25 * time.Minute
	checkTime     = 20 * time.Minute
	kernelTime    = 3 * time.Minute
	serviceTime   = 8 * time.Minute
)

// identity makes a fresh identity and returns its directory.
func (w world) identity(t *testing.T, port int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "identity")
	w.kiln(t, "identity", "new", "node-1", "--address", vm.Guest, "--endpoint", vm.Guest+":6443", "--release", testedRelease,
		"--server", fmt.Sprintf("https://127.0.0.1:%d", port), "-o", dir)
	return dir
}

// TestMachine is the life of one node: its first boot, a look from the inside and from the outside, a power cut, and the
// boot after it.
func TestMachine(t *testing.T) {
	w := newWorld(t)
	checker := w.checkerDisk(t)
	port := freePort(t)
	identity := w.identity(t, port)
	options := vm.Options{Dir: w.place(t, "life"), Ignition: filepath.Join(identity, "config.ign"), APIPort: port}

	m := w.boot(t, withChecker(options, checker))
	ok := t.Run("first boot ends with a Ready node", func(t *testing.T) {
		begin := time.Now()
		name, err := m.Console().Ready(t.Context(), firstBootTime, vm.Watch{Say: func(at time.Duration, text string) {
			t.Logf("%7s  %s", vm.Clock(at), text)
		}, Quiet: time.Minute})
		must(t, err)
		if name != "node-1" {
			t.Errorf("node %q is Ready, want node-1", name)
		}
		t.Logf("Ready after %s", vm.Clock(time.Since(begin)))
	})
	if !ok {
		return
	}
	t.Run("the node is what its release says", func(t *testing.T) { passes(t, m, checkTime) })
	t.Run("the host reaches the cluster", func(t *testing.T) { w.lookFromOutside(t, identity) })
	m.Kill()

	m = w.boot(t, withChecker(options, checker, "--second-boot"))
	t.Run("after a power cut nothing is done again", func(t *testing.T) {
		passes(t, m, checkTime)
		mustNotHaveSaid(t, m, "the second boot runs kubeadm", `^kubeadm-init: `)
	})
}

// lookFromOutside asks the API through the forwarded port, as the user of `kiln vm` does.
func (w world) lookFromOutside(t *testing.T, identity string) {
	kubectl := func(args ...string) string {
		args = append([]string{"--kubeconfig", filepath.Join(identity, "admin.conf"), "--request-timeout=60s"}, args...)
		return w.run(t, command.Command{Name: w.kubectl, Args: args})
	}
	t.Logf("\n%s\n\n%s", kubectl("get", "nodes", "-o", "wide"), kubectl("get", "pods", "-A"))
	var pods struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct{ Phase string }
		}
	}
	must(t, json.Unmarshal([]byte(kubectl("get", "pods", "-A", "-o", "json")), &pods))
	for _, pod := range pods.Items {
		if pod.Status.Phase != "Running" {
			t.Errorf("pod %s is %s", pod.Metadata.Name, pod.Status.Phase)
		}
	}
	// Four of the control plane, two of CoreDNS, kube-proxy and flannel.
	if len(pods.Items) != 8 {
		t.Errorf("%d pods, want 8", len(pods.Items))
	}
}
