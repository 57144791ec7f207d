package bootstrap

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// machineOf has files below a temporary directory: each line of text is a path, a space and the content, in which | is a
// line's end.
func machineOf(t *testing.T, text string) *Machine {
	t.Helper()
	m := &Machine{Root: nodefs.Root(t.TempDir()), Report: &Report{Out: &strings.Builder{}}}
	for line := range strings.Lines(text) {
		path, content, _ := strings.Cut(strings.TrimSpace(line), " ")
		full := m.Root.Path(path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(strings.ReplaceAll(content, "|", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestFacts(t *testing.T) {
	const nic = "/sys/class/net/"
	tests := []struct {
		name, files string
		want        Facts
	}{
		{"nothing is known", "", Facts{}},
		{"a machine", `/proc/sys/kernel/hostname Rack1-U4.example.org|
/proc/meminfo MemTotal:        4014420 kB|MemFree: 1 kB|
/proc/self/status Name: x|Cpus_allowed:	ff|Cpus_allowed_list:	0-3,8|
/proc/swaps Filename Type Size Used Priority|/dev/sda2 partition 8 0 -2|/swapfile file 8 0 -3|
/sys/class/dmi/id/product_uuid 4C4C4544-0042-3510-8052-B4C04F4E3232|
/proc/cmdline roothash=4f1c kiln.platform=metal quiet|
/sys/class/dmi/id/product_serial 5B5NN22|`, Facts{Platform: "metal", Hostname: "rack1-u4.example.org", Memory: 4014420 * 1024, CPUs: 5,
			Swap: []string{"/dev/sda2", "/swapfile"}, UUID: "4c4c4544-0042-3510-8052-b4c04f4e3232", Serial: "5B5NN22"}},
		{"firmware that says nothing", `/sys/class/dmi/id/product_uuid 00000000-0000-0000-0000-000000000000|
/sys/class/dmi/id/product_serial To Be Filled By O.E.M.|
/proc/sys/kernel/hostname localhost.localdomain|
/proc/swaps Filename Type Size Used Priority|`, Facts{}},
		{"physical interfaces count, made ones do not", nic + "lo/type 772\n" + nic + "lo/address 00:00:00:00:00:00\n" +
			nic + "enp2s0/type 1\n" + nic + "enp2s0/address 52:54:00:AA:BB:02\n" + nic + "enp2s0/device/vendor 1\n" +
			nic + "enp1s0/type 1\n" + nic + "enp1s0/address 52:54:00:aa:bb:01\n" + nic + "enp1s0/device/vendor 1\n" +
			nic + "cni0/type 1\n" + nic + "cni0/address 9a:00:00:00:00:01\n" + nic + "cni0/bridge/x 1\n" +
			nic + "veth1/type 1\n" + nic + "veth1/address 9a:00:00:00:00:02\n",
			Facts{MACs: []string{"52:54:00:aa:bb:01", "52:54:00:aa:bb:02"}}},
		{"a container", nic + "eth0/type 1\n" + nic + "eth0/address 02:42:ac:11:00:02\n" +
			nic + "flannel.1/type 1\n" + nic + "flannel.1/address 9a:00:00:00:00:01\n" + nic + "flannel.1/uevent DEVTYPE=vxlan|INTERFACE=flannel.1\n" +
			nic + "vethab/type 1\n" + nic + "vethab/address 9a:00:00:00:00:02\n" + nic + "vethab/master/x 1\n" +
			nic + "kiln-services/type 1\n" + nic + "kiln-services/address 9a:00:00:00:00:03\n",
			Facts{MACs: []string{"02:42:ac:11:00:02"}}},
	}
	for _, tt := range tests {
		if got := machineOf(t, tt.files).facts(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: have %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestHostnameBeforeKilnNamedIt(t *testing.T) {
	m := machineOf(t, "/proc/sys/kernel/hostname rack1-u4\n")
	if err := m.rememberHostname(m.facts()); err != nil {
		t.Fatal(err)
	}
	// The step hostname, and the next boot.
	for path, text := range map[string]string{nodefs.Hostname: "w1\n", "/proc/sys/kernel/hostname": "w1\n"} {
		if err := put(m.Root.Path(path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.facts().Hostname; got != "rack1-u4" {
		t.Errorf("kiln's own name is taken for the machine's: %q", got)
	}
	if err := put(m.Root.Path("/proc/sys/kernel/hostname"), []byte("rack2-u9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := m.facts().Hostname; got != "rack2-u9" {
		t.Errorf("a new name of the network's is not seen: %q", got)
	}
}

func TestCount(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "0-1,4,6-7": 5, "": 0, "all": 0} {
		if got := count(list); got != want {
			t.Errorf("%q: have %d, want %d", list, got, want)
		}
	}
}
