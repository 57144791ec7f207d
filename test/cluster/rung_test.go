//go:build cluster

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	before := seen(t)
	t.Run("node", w.testFounds)
	mustBeGone(t, before)
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
	before := seen(t)
	dir := filepath.Join(w.repo, "out/test-cluster/killed")
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
	if now := seen(t); len(now.namespaces) <= len(before.namespaces) {
		t.Fatal("no namespaces are seen: this test would prove nothing")
	}
	p.Kill()
	after := before
	after.groups = seen(t).groups // empty ones stay until somebody removes them
	mustBeGone(t, after)
	h, err := rung.Open(rung.Options{Dir: dir, Parts: w.parts})
	must(t, err)
	if _, err := rung.Open(rung.Options{Dir: dir, Parts: w.parts}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	must(t, h.Close())
	mustBeGone(t, before)
}

// traces is what nodes could leave on a host.
type traces struct{ mounts, loops, namespaces, groups, links []string }

func seen(t *testing.T) traces {
	t.Helper()
	var s traces
	s.mounts = lines(t, "/proc/self/mountinfo")
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	for _, file := range backing {
		text, _ := os.ReadFile(file)
		s.loops = append(s.loops, strings.TrimSpace(string(text)))
	}
	// A namespace is there for as long as a process is in it.
	found, err := filepath.Glob("/proc/[0-9]*/ns/net")
	must(t, err)
	for _, link := range found {
		if target, err := os.Readlink(link); err == nil && !slices.Contains(s.namespaces, target) {
			s.namespaces = append(s.namespaces, target)
		}
	}
	s.groups, err = filepath.Glob("/sys/fs/cgroup/*/kiln-rung-*")
	must(t, err)
	s.links, err = filepath.Glob("/sys/class/net/*")
	must(t, err)
	return s
}

// mustBeGone fails unless, shortly, nothing is seen that was not there before.
func mustBeGone(t *testing.T, before traces) {
	t.Helper()
	eventually(t, "nothing left on the host", 20*time.Second, func(context.Context) error {
		now := seen(t)
		var errs []error
		for _, kind := range []struct {
			name        string
			before, now []string
		}{
			{"mounts", before.mounts, now.mounts}, {"loop devices", before.loops, now.loops},
			{"network namespaces", before.namespaces, now.namespaces},
			{"cgroups", before.groups, now.groups}, {"links", before.links, now.links},
		} {
			for _, one := range kind.now {
				if !slices.Contains(kind.before, one) {
					errs = append(errs, fmt.Errorf("%s: %s is left", kind.name, one))
				}
			}
		}
		return errors.Join(errs...)
	})
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}
