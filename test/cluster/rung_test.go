//go:build cluster

package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/test/rung"
)

// TestDriver proves what every test here rests on, with machines that have no identity: a console, a disk that outlives a
// power cut, a cable that can be pulled, a load balancer that refuses, loses packets, and passes them through.
func TestDriver(t *testing.T) {
	w := newWorld(t)
	t.Run("machines", w.testDriver)
	mustBeGone(t, w.dir("driver"), true)
}

func (w world) testDriver(t *testing.T) {
	h := w.open(t, "driver")
	const first, second, front = "10.77.0.11", "10.77.0.12", "10.77.0.10:6443"
	a := w.node(t, h, rung.NodeOptions{Name: "a", Address: first, Image: w.image[controlPlane]})
	b := w.node(t, h, rung.NodeOptions{Name: "b", Address: second, Image: w.image[worker], UUID: "00000000-0000-4000-8000-00000000000b"})
	for _, n := range []*rung.Node{a, b} {
		must(t, n.PowerOn(t.Context()))
		expect(t, n, `no identity found`, time.Minute)
	}
	in := func(n *rung.Node, script string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return n.Exec(ctx, "sh", "-c", script)
	}
	if out, err := in(b, "cat /sys/class/dmi/id/product_uuid /proc/sys/kernel/panic; ls /dev/vda; echo x >/proc/sys/kernel/core_pattern"); err == nil ||
		out != "00000000-0000-4000-8000-00000000000b\n10\n" {
		t.Errorf("of its hardware the node says %q, %v", out, err)
	}

	t.Run("a disk outlives a power cut", func(t *testing.T) {
		boot, err := in(b, "echo kept >/var/kept; echo kept >/etc/kept; echo lost >/run/lost; cat /proc/sys/kernel/random/boot_id")
		must(t, err)
		must(t, b.PowerOff())
		if out, err := in(b, "true"); err == nil {
			t.Errorf("a machine that is off runs programs: %q", out)
		}
		must(t, b.PowerOn(t.Context()))
		out, err := in(b, "cat /var/kept /etc/kept; test ! -e /run/lost; cat /proc/sys/kernel/random/boot_id")
		if err != nil || !strings.HasPrefix(out, "kept\nkept\n") || strings.HasSuffix(out, boot) {
			t.Errorf("after the cut: %q, %v; boot before %q", out, err, boot)
		}
		must(t, b.PowerOff())
		must(t, b.Wipe())
		must(t, b.PowerOn(t.Context()))
		if out, err := in(b, "test ! -e /var/kept && test ! -e /etc/kept"); err != nil {
			t.Errorf("after the disk was wiped: %q, %v", out, err)
		}
	})

	t.Run("a cable is pulled", func(t *testing.T) {
		reach := func(ctx context.Context) error {
			_, err := b.Exec(ctx, "busybox", "ping", "-c1", "-W1", first)
			return err
		}
		eventually(t, "reached", 20*time.Second, reach)
		must(t, b.Partition())
		if reach(t.Context()) == nil {
			t.Error("the other machine is reached without a cable")
		}
		if out, err := in(b, "cat /sys/class/net/eth0/carrier"); err != nil || out != "1\n" {
			t.Errorf("the partition is seen as a lost carrier: %q, %v", out, err)
		}
		must(t, b.Heal())
		eventually(t, "reached again", 20*time.Second, reach)
	})

	t.Run("a load balancer refuses and loses", func(t *testing.T) {
		// It takes a backend that says it is ready over TLS: openssl's little web server serves files of its directory.
		_, err := in(a, "mkdir -p /run/www && cd /run/www && echo ok >readyz && "+
			"openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=test 2>/dev/null && "+
			"systemd-run --quiet --working-directory=/run/www openssl s_server -accept 6443 -key key -cert cert -WWW")
		must(t, err)
		balancer, err := h.Balancer(front, first+":6443", second+":6443")
		must(t, err)
		ask := "printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' | socat -T3 - OPENSSL:" + front + ",verify=0,connect-timeout=3 2>&1"
		answers := func(context.Context) error {
			out, err := in(b, ask)
			if err == nil && !strings.Contains(out, "200") {
				err = fmt.Errorf("the answer is %q", out)
			}
			return err
		}
		eventually(t, "answered", 30*time.Second, answers)
		balancer.Stop()
		if out, err := in(b, ask); err == nil || !strings.Contains(out, "refused") {
			t.Errorf("a balancer that is stopped: %q, %v", out, err)
		}
		must(t, balancer.Start())
		must(t, balancer.Drop(t.Context()))
		if out, err := in(b, ask); err == nil || !strings.Contains(out, "timed out") {
			t.Errorf("a balancer that loses packets: %q, %v", out, err)
		}
		must(t, balancer.Pass(t.Context()))
		eventually(t, "answered again", 30*time.Second, answers)
	})
}

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
	// A path as a person gives it, from this directory.
	here, err := os.Getwd()
	must(t, err)
	kubeconfig, err := filepath.Rel(here, filepath.Join(identity, "admin.conf"))
	must(t, err)
	o := operator{host: h, kubeconfig: kubeconfig}

	must(t, n.PowerOn(t.Context()))
	if out, err := n.Exec(t.Context(), "cat", "/proc/1/comm"); err != nil || out != "systemd\n" {
		t.Errorf("process 1 of the node is %q, %v", out, err)
	}
	expect(t, n, `^ready: alone is Ready`, 3*time.Minute)
	eventually(t, "all Ready", 2*time.Minute, o.allReady(n))
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
	eventually(t, "all Ready again", 3*time.Minute, o.allReady(n))
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
