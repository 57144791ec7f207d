package rung

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

//go:embed boot.sh
var bootScript string

//go:embed join.sh
var joinScript string

// NodeOptions describe a machine.
type NodeOptions struct {
	// Name names it here: its directory, its console log. What the node calls itself, its identity says.
	Name string
	// Address is eth0's, within Network.
	Address string
	// Image is the output directory of the kiln build whose root it boots.
	Image string
	// Identity is the Ignition config that its firmware shows; nil for none.
	Identity []byte
	// MAC, UUID and Serial are made from Name when they are empty.
	MAC, UUID, Serial string
}

// Node is a machine: a disk, a network card and a power switch.
type Node struct {
	host    *Host
	o       NodeOptions
	image   image
	boots   int
	bootID  string
	power   *command.Process
	init    int
	port    port
	term    *terminal
	console *vm.Console
}

// Node adds a machine. It is off, and its disk is what an earlier run of the same name left; Wipe empties it.
func (h *Host) Node(o NodeOptions) (*Node, error) {
	image, err := h.mountImage(o.Image)
	if err != nil {
		return nil, fmt.Errorf("adding node %s: %w", o.Name, err)
	}
	fixed := sha256.Sum256([]byte(o.Name))
	if o.UUID == "" {
		o.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", fixed[:4], fixed[4:6], fixed[6:8], fixed[8:10], fixed[10:16])
	}
	if o.Serial == "" {
		o.Serial = "RUNG-" + strings.ToUpper(o.Name)
	}
	if o.MAC == "" {
		o.MAC = fmt.Sprintf("52:54:00:%02x:%02x:%02x", fixed[0], fixed[1], fixed[2])
	}
	n := &Node{host: h, o: o, image: image}
	for _, dir := range []string{"var", "root", "firmware/qemu_fw_cfg"} {
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := n.SetIdentity(o.Identity); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes = append(h.nodes, n)
	return n, nil
}

// Name is the machine's name, and its node's when its identity says so.
func (n *Node) Name() string { return n.o.Name }

// Address is eth0's.
func (n *Node) Address() string { return n.o.Address }

// path is a path in the node's directory.
func (n *Node) path(name string) string { return filepath.Join(n.host.o.Dir, "nodes", n.o.Name, name) }

// OnDisk is where this process finds a path of the machine's disk, which the node has at nodefs.State, also while it is off.
// What the node wrote below /etc lies on it at nodefs.EtcUpper.
func (n *Node) OnDisk(path string) string {
	return n.path(filepath.Join("var", strings.TrimPrefix(path, nodefs.State)))
}

// PowerOn starts the machine and returns when systemd is its process 1.
func (n *Node) PowerOn(ctx context.Context) error {
	if n.Running() {
		return fmt.Errorf("powering %s on: it is on", n.o.Name)
	}
	if err := n.PowerOff(); err != nil { // one that ended by itself still has its cable
		return err
	}
	if err := n.powerOn(ctx); err != nil {
		text, _ := os.ReadFile(n.path("boot.log"))
		return errors.Join(fmt.Errorf("powering %s on: %w\n%s", n.o.Name, err, text), n.PowerOff())
	}
	return nil
}

func (n *Node) powerOn(ctx context.Context) error {
	if err := n.writeMachine(); err != nil {
		return err
	}
	if err := n.host.groups.add(n.o.Name); err != nil {
		return err
	}
	n.boots++
	log := n.path(fmt.Sprintf("console-%d.log", n.boots))
	var err error
	if n.term, err = newTerminal(log); err != nil {
		return err
	}
	n.console = vm.Follow(log, nil)
	if err := n.startInit(); err != nil {
		return err
	}
	// A pid namespace's first process is the only child that unshare ever has.
	if err := n.await(ctx, "unshare's child", func() bool { n.init = child(n.power.PID); return n.init != 0 }); err != nil {
		return err
	}
	if n.port, err = n.host.connect(n.interfaceName(), n.o.MAC, n.init); err != nil {
		return err
	}
	if n.host.noDummy {
		inNode := &namespace{entries: []string{"--target=" + strconv.Itoa(n.init), "--net"}}
		if err := inNode.run(ctx, "ip", "link", "add", servicesDevice, "type", "ifb"); err != nil {
			return err
		}
	}
	return n.await(ctx, "systemd", func() bool { return comm(n.init) == "systemd" })
}

// startInit starts boot.sh in the namespaces that become the node's.
func (n *Node) startInit() error {
	output, err := os.Create(n.path("boot.log"))
	if err != nil {
		return err
	}
	defer output.Close()
	words := "systemd.firstboot=no"
	if n.host.groups.legacy() {
		words += " systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
	}
	args := []string{filepath.Join(n.host.o.Dir, "join.sh"), n.path("groups"), "nsenter"}
	args = append(args, n.host.segment.entries...)
	args = append(args, "--", "unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net", "--fork", "--kill-child=KILL",
		"sh", filepath.Join(n.host.o.Dir, "boot.sh"), filepath.Dir(n.path("x")), n.image.root, n.host.marker(), n.term.path, words)
	n.power, err = command.Exec{}.Start(n.host.ctx, command.Command{Name: "sh", Args: args, Stdout: output, Stderr: output}, false)
	return err
}

// await waits for something of a boot, for as long as the machine is on.
func (n *Node) await(ctx context.Context, what string, look func() bool) error {
	off := false
	err := await(ctx, shortly, func() bool { off = !n.Running(); return off || look() })
	if off && err == nil {
		return fmt.Errorf("waiting for %s: the machine went off: %w", what, n.power.Wait())
	}
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
	}
	return nil
}

// interfaceName is the switch's name for the node's port; an interface's name has at most 15 characters.
func (n *Node) interfaceName() string {
	hash := sha256.Sum256([]byte(n.o.Name))
	return fmt.Sprintf("port-%x", hash[:4])
}

// child is the only child of a process, or 0.
func child(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	first, _, _ := strings.Cut(string(text), " ")
	number, _ := strconv.Atoi(first)
	// The shell that becomes unshare may have had children, too.
	if number == 0 || comm(pid) != "unshare" {
		return 0
	}
	return number
}

// Running tells whether the machine is on.
func (n *Node) Running() bool {
	if n.power == nil {
		return false
	}
	select {
	case <-n.power.Done():
		return false
	default:
		return true
	}
}

// PowerOff cuts the power: every process of the node is gone at once, and of all it had only the disk stays. It changes
// nothing on a machine that is off.
func (n *Node) PowerOff() error {
	if n.power == nil {
		return nil
	}
	// The kernel ends a pid namespace with its first process; unshare, which waits for that one, ends when all are gone.
	if n.init != 0 && n.Running() {
		if err := kill(n.init); err != nil {
			return err
		}
		select {
		case <-n.power.Done():
		case <-time.After(shortly):
		}
	}
	n.power.Kill()
	n.port.remove()
	if n.console != nil {
		n.console.Close()
	}
	if n.term != nil {
		n.term.close()
	}
	n.power, n.init, n.term, n.port = nil, 0, nil, port{}
	return n.host.groups.remove(n.o.Name)
}

// Wipe empties the disk of a machine that is off.
func (n *Node) Wipe() error {
	if n.Running() {
		return fmt.Errorf("wiping the disk of %s: it is on", n.o.Name)
	}
	if err := removeDisk(n.path("var")); err != nil {
		return fmt.Errorf("wiping the disk of %s: %w", n.o.Name, err)
	}
	return os.MkdirAll(n.path("var"), 0o755)
}

// Partition takes the node's cable out of the switch; its link stays up. Heal puts it back.
func (n *Node) Partition() error { return n.port.unplug() }

// Heal ends a Partition.
func (n *Node) Heal() error { return n.port.plug() }
