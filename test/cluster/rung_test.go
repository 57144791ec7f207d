//go:build cluster

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/test/rung"
)

// TestFounds proves the driver with the smallest cluster: one control plane founds it, loses its power, and comes back as
// the same node. Afterwards nothing is left on the host.
func TestFounds(t *testing.T) {
	w := newWorld(t)
	t.Run("node", w.testFounds)
	mustBeGone(t, w.dir("founds"), true)
}

func (w world) testFounds(t *testing.T) {
	h := w.open(t, "founds")
	const address = "10.77.0.11"
	identity := t.TempDir()
	w.kiln(t, "identity", "new", "alone", "--address", address, "--endpoint", address+":6443", "-o", identity)
	ignition, err := os.ReadFile(filepath.Join(identity, "config.ign"))
	must(t, err)
	n := w.node(t, h, rung.NodeOptions{Name: "alone", Address: address, Image: w.image[controlPlane], Identity: ignition})
	o := operator{host: h, kubeconfig: filepath.Join(identity, "admin.conf")}

	must(t, n.PowerOn(t.Context()))
	if out, err := n.Exec(t.Context(), "cat", "/proc/1/comm"); err != nil || out != "systemd\n" {
		t.Errorf("process 1 of the node is %q, %v", out, err)
	}
	expect(t, n, `^ready: alone is Ready`, 3*time.Minute)
	eventually(t, "all Ready", 2*time.Minute, o.allReady("alone"))
	first := o.nodes(t)["alone"]
	if failed, err := n.Exec(t.Context(), "systemctl", "--failed", "--plain", "--no-legend"); err != nil || failed != "" {
		t.Errorf("units failed: %s, %v", failed, err)
	}

	must(t, n.PowerOff())
	if n.Running() {
		t.Error("the node survived a power cut")
	}
	if _, err := o.try(t.Context(), "get", "nodes", "--request-timeout=3s"); err == nil {
		t.Error("the API answers though the only node is off")
	}
	must(t, n.PowerOn(t.Context()))
	expect(t, n, `was completed before; nothing to do`, time.Minute)
	eventually(t, "all Ready again", 3*time.Minute, func(ctx context.Context) error {
		if err := o.allReady("alone")(ctx); err != nil {
			return err
		}
		// What the API says of the node may still be of the time before the cut.
		again, err := o.list(ctx, "nodes")
		if err == nil && again["alone"].Status.NodeInfo.BootID == first.Status.NodeInfo.BootID {
			err = errors.New("the kubelet has not reported its new boot")
		}
		return err
	})
	again := o.nodes(t)["alone"]
	if again.Metadata.UID != first.Metadata.UID || again.Status.NodeInfo.MachineID != first.Status.NodeInfo.MachineID {
		t.Errorf("the node came back as another: Node %s on machine %s, before %s on %s",
			again.Metadata.UID, again.Status.NodeInfo.MachineID, first.Metadata.UID, first.Status.NodeInfo.MachineID)
	}
}

// TestKilledHost proves that a test that is killed leaves no node running, and that the next one removes the rest.
func TestKilledHost(t *testing.T) {
	w := newWorld(t)
	dir := w.dir("killed")
	program := filepath.Join(t.TempDir(), "try")
	w.run(t, "go", "build", "-o", program, "./test/rung/try")
	out, in, err := os.Pipe()
	must(t, err)
	p, err := command.Exec{}.Start(t.Context(), command.Command{Name: program, Args: []string{"-dir", dir}, Dir: w.repo, Stdout: in, Stderr: os.Stderr}, false)
	must(t, err)
	must(t, in.Close())
	text := make([]byte, 4096)
	n, err := out.Read(text)
	must(t, err)
	if !strings.Contains(string(text[:n]), "systemd runs as process") {
		t.Fatalf("the program says %q", text[:n])
	}
	if left, groups := leftovers(t, dir); len(left) < 3 || len(groups) == 0 {
		t.Fatalf("of a running node only %v and %v are seen: this test would prove nothing", left, groups)
	}
	p.Kill()
	mustBeGone(t, dir, false)
	h, err := rung.Open(rung.Options{Dir: dir, Parts: w.parts})
	must(t, err)
	if _, err := rung.Open(rung.Options{Dir: dir, Parts: w.parts}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	must(t, h.Close())
	mustBeGone(t, dir, true)
}

// leftovers are what nodes of the Host in dir could leave on this machine; nil when there is nothing. Empty cgroups, which
// may stay until the next Open, are told apart.
func leftovers(t *testing.T, dir string) (left, groups []string) {
	t.Helper()
	name := rung.GroupName(dir)
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	var mounted strings.Builder
	for _, process := range processes {
		// One that ends meanwhile has empty files.
		cgroup, _ := os.ReadFile(filepath.Join(process, "cgroup"))
		mounts, _ := os.ReadFile(filepath.Join(process, "mountinfo"))
		line, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		mounted.Write(mounts)
		if strings.Contains(string(cgroup), name) || strings.Contains(string(mounts), dir) {
			left = append(left, fmt.Sprintf("process %s: %q", filepath.Base(process), line))
		}
	}
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	for _, file := range devices {
		device := "/dev/" + strings.Split(file, "/")[3]
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), ".squashfs") && !strings.Contains(mounted.String(), " "+device+" ") {
			left = append(left, "loop device "+device+", mounted nowhere: "+strings.TrimSpace(string(text)))
		}
	}
	ports, err := filepath.Glob("/sys/class/net/port-*")
	must(t, err)
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
		found, err := filepath.Glob(pattern + name)
		must(t, err)
		groups = append(groups, found...)
	}
	return append(left, ports...), groups
}

// mustBeGone fails unless, shortly, nothing of the Host in dir is left.
func mustBeGone(t *testing.T, dir string, withGroups bool) {
	t.Helper()
	eventually(t, "nothing left on the host", 20*time.Second, func(context.Context) error {
		left, groups := leftovers(t, dir)
		if withGroups {
			left = append(left, groups...)
		}
		if len(left) > 0 {
			return fmt.Errorf("left:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
}
