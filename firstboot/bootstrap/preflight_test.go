package bootstrap

import (
	"os"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// sockets are lines of /proc/net/tcp: etcd's port listened on, the API server's in use by a client only.
const sockets = `/proc/net/tcp sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode|` +
	`0: 0100007F:094B 00000000:0000 0A 0:0 00:0 0 0 0 4711 1 x|1: 0F02000A:192B 0A02000A:01BB 01 0:0 00:0 0 0 0 4712 1 x|` + "\n" +
	`/proc/net/tcp6 sl local_address rem_address st|0: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4713 1 x|` + "\n" +
	"/proc/812/comm haproxy|\n"

func TestPreflight(t *testing.T) {
	small := Facts{CPUs: 1, Memory: 1 << 30, Swap: []string{"/dev/sda2"}, MACs: []string{"x"}, UUID: "u"}
	good := Facts{CPUs: 2, Memory: 2 << 30, MACs: []string{"x"}, UUID: "u"}
	tests := []struct {
		name, files string
		facts       Facts
		role        string
		custom      cluster.Customisation
		begun       string
		// want are parts of the error, said of what is printed; not is what must be in neither.
		want, said, not []string
		waits           bool
	}{
		{name: "fits", facts: good, role: profile.ControlPlane},
		{name: "nothing is known", role: profile.Worker, said: []string{"warning: no network interface", "warning: the firmware tells no product UUID"}},
		{name: "too small", facts: small, role: profile.ControlPlane, want: []string{
			"machine: cpus: has 1, and a control plane needs 2", "machine: memory: has 1024 MiB, and a control plane needs 1700", "machine: swap: is on (/dev/sda2)"}},
		{name: "a small worker", facts: small, role: profile.Worker, want: []string{"machine: swap: is on"}, not: []string{"cpus", "memory"}},
		{name: "told to ignore", facts: small, role: profile.ControlPlane, custom: cluster.Customisation{IgnorePreflightErrors: []string{"numcpu", "Mem", "Swap"}},
			said: []string{"warning: machine: cpus: has 1", "warning: machine: memory", "(ignored, as Swap is in customisation.ignorePreflightErrors)"}},
		{name: "swap is wanted", facts: Facts{Swap: []string{"/x"}}, role: profile.Worker, custom: cluster.Customisation{Kubelet: map[string]any{"failSwapOn": false}}},
		{name: "ports are held", files: sockets, facts: good, role: profile.ControlPlane, waits: true, not: []string{"6443", "2380"}, want: []string{
			"machine: port 2379: is held by haproxy (process 812), and etcd needs it; end that program, or let it listen elsewhere",
			"machine: port 10250: is held by another program, and the kubelet needs it"}},
		{name: "a worker needs fewer", files: sockets, facts: good, role: profile.Worker, waits: true, want: []string{"port 10250"}, not: []string{"2379"}},
		{name: "a held port that is ignored", files: sockets, facts: good, role: profile.Worker, custom: cluster.Customisation{IgnorePreflightErrors: []string{"Port-10250"}},
			said: []string{"warning: machine: port 10250"}},
		{name: "its own ports", files: sockets, facts: good, role: profile.ControlPlane, begun: "kubeadm-join"},
		{name: "its own ports, journal lost", files: sockets + nodefs.KubeletConfig + " x\n", facts: good, role: profile.ControlPlane},
		{name: "ports and memory", files: sockets, facts: small, role: profile.ControlPlane, want: []string{"port 2379", "cpus"}},
	}
	for _, tt := range tests {
		m := machineOf(t, tt.files)
		out := &strings.Builder{}
		m.Report.Out = out
		if tt.files != "" {
			if err := os.MkdirAll(m.Root.Path("/proc/812/fd"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("socket:[4711]", m.Root.Path("/proc/812/fd/7")); err != nil {
				t.Fatal(err)
			}
		}
		p := plan{m: m, machine: tt.facts, began: func(step string) bool { return step == tt.begun },
			o: kubeadm.Options{Identity: cluster.Identity{Node: cluster.Node{Name: "n1", Role: tt.role}, Cluster: cluster.Cluster{Customisation: tt.custom}}}}
		note, err := p.preflight(t.Context())
		if (err != nil) != (tt.want != nil) || err == nil && note == "" {
			t.Errorf("%s: have %q, %v", tt.name, note, err)
			continue
		}
		text := note
		if err != nil {
			text = err.Error()
			if IsPermanent(err) == tt.waits {
				t.Errorf("%s: permanent: %v", tt.name, !tt.waits)
			}
		}
		for _, part := range tt.want {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the error lacks %q:\n%s", tt.name, part, text)
			}
		}
		for _, part := range tt.said {
			if !strings.Contains(out.String(), part) {
				t.Errorf("%s: does not say %q:\n%s", tt.name, part, out)
			}
		}
		for _, part := range tt.not {
			if strings.Contains(text+out.String(), part) {
				t.Errorf("%s: says %q:\n%s%s", tt.name, part, text, out)
			}
		}
	}
}

func TestNameOfNobody(t *testing.T) {
	p := plan{m: machineOf(t, ""), began: func(string) bool { return false }}
	p.o.Identity.Node.Name = "localhost"
	if _, err := p.preflight(t.Context()); !IsPermanent(err) || !strings.Contains(err.Error(), `identity: node.name: "localhost"`) {
		t.Errorf("have %v", err)
	}
}
