//go:build machine && full

package vm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// The tagged network of a segment: nothing answers DHCP there.
const (
	taggedServer = "10.89.0.1"
	taggedNode   = "10.89.0.11"
)

// tagged adds a tagged network to the segment, and a server on it.
func (s *segment) tagged() {
	const trunk, plain = "trunk", "tagged"
	program, err := os.Executable()
	must(s.t, err)
	s.start("tag.log", command.Command{Name: program, Args: []string{tagWord, trunk, plain}})
	s.await("the tagged network", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", s.holder.PID))
		return strings.Contains(string(text), trunk+":") && strings.Contains(string(text), plain+":")
	})
	for _, line := range []string{
		"link set " + trunk + " master br0", "link set " + trunk + " up", "address add " + taggedServer + "/24 dev " + plain, "link set " + plain + " up",
	} {
		s.run(command.Command{Name: "ip", Args: strings.Fields(line)})
	}
	s.startHTTP("tagged.log", taggedServer)
}

// TestLiveNetwork boots over a tagged network on a bond, with an address that nobody hands out: once as the identity says, which
// is on the machine, and the node keeps that network; once as the kernel command line says, in dracut's words.
func TestLiveNetwork(t *testing.T) {
	w := newWorld(t)
	sealed, initramfs := w.liveSet(t)
	s := newSegment(t, sealed)
	s.tagged()
	boot := func(t *testing.T, o vm.Options) *vm.Running {
		o.Kernel, o.Initrd = w.kernel, initramfs
		o.Append = w.CommandLine + " kiln.root=http://" + taggedServer + "/" + nodefs.LiveRoot + " " + o.Append
		return s.boot(w, o)
	}
	t.Run("identity", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "identity")
		w.kiln(t, "identity", "new", "node-1", "--address", taggedNode, "--endpoint", taggedNode+":6443", "--release", testedRelease, "-o", dir)
		identity := changed(t, dir, func(document map[string]any) {
			within(document, "node")["network"] = object{"links": []object{
				{"name": "bond0", "bond": object{"links": []string{segmentMAC}}},
				{"name": "storage", "vlan": object{"id": tagID, "link": "bond0"}, "addresses": []string{taggedNode + "/24"}, "gateways": []string{taggedServer}},
			}}
		})
		identity = withIgnition(t, filepath.Dir(identity), object{"systemd": object{"units": []any{proof("After=network-online.target containerd.service", map[string]string{
			"route": `ip -4 route show default | cut -d" " -f1-5`, "bond": "grep -c Slave.Interface /proc/net/bonding/bond0",
			"link": "cat /run/systemd/network/40-kiln-1.network | grep Address",
		})}}})
		m := boot(t, vm.Options{Dir: w.place(t, "live-net-identity"), Ignition: identity})
		expect(t, m, "the network", `network +[0-9.]+ s .*storage `+taggedNode+`/24`, kernelTime)
		expect(t, m, "the fetch", `fetch-root +[0-9.]+ s .* every block checked`, kernelTime)
		expect(t, m, "the node has the same network", `^network: `+taggedNode, serviceTime)
		proves(t, m, map[string]string{"route": "default via " + taggedServer + " dev storage", "bond": "1", "link": "Address=" + taggedNode + "/24"})
		m.Kill()
	})
	t.Run("arguments", func(t *testing.T) {
		m := boot(t, vm.Options{Dir: w.place(t, "live-net-arguments"), Append: "bond=bond0:eth0:mode=active-backup vlan=bond0.7:bond0 " +
			"ip=" + taggedNode + "::" + taggedServer + ":255.255.255.0::bond0.7:none"})
		expect(t, m, "the fetch", `fetch-root +[0-9.]+ s .* every block checked`, kernelTime)
		expect(t, m, "systemd starts", switching, kernelTime)
		m.Kill()
	})
}
