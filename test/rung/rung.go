// Package rung boots several real nodes on one Linux machine without a virtual machine: each is the image's own systemd,
// process 1 of its own namespaces, over the very squashfs files that were baked. It is rung 4 of the tests, and what the
// demo and the bench of a cluster run on. It needs root.
//
// What a node has of its own: processes, mounts, network (eth0, a veth into a switch), hostname, IPC and cgroups. What it
// shares is the host's kernel and clock. The switch, the load balancer and the operator's own place (Host.Kubectl) are
// network namespaces too, so that nothing of it can be seen or reached from the host's network.
//
// Everything that a node needs only because it is no machine of its own (cgroup v1, no CAP_SYS_RESOURCE, no device
// manager) is in files.go and boot.sh of this package, bound over the read-only root; nothing of it is in the image.
//
// Nothing outlives the process that called Open, however it ends: every process here dies with its parent, and mounts,
// loop devices and network devices live in namespaces that die with those. What may stay are the nodes' directories,
// which are their disks, and empty cgroups; the next Open of the same directory removes the latter.
package rung

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
)

// Options say where a Host keeps its things.
type Options struct {
	// Dir holds the nodes' disks and logs. It has to lie on a filesystem that an overlay can be written to (ext4, xfs,
	// btrfs): a node's /var is a directory in it.
	Dir string
	// Parts is the directory with the cache's parts: `kiln cache path` with /parts behind it.
	Parts string
	// Firstboot, if not empty, is a program that takes the place of the image's firstboot on every node.
	Firstboot string
}

// Host is this machine in its role as a rack: the switch, and the nodes and balancers on it. Its methods may be called
// at once from several goroutines; those of one Node may not.
type Host struct {
	o Options
	// lock is of the directory, settings of the machine's.
	lock, settings *os.File
	groups         groups
	segment        *namespace
	cancel         context.CancelFunc
	ctx            context.Context

	mu     sync.Mutex
	images map[string]string
	// noDummy says that the host's kernel has no dummy network devices: see services in files.go.
	noDummy   bool
	nodes     []*Node
	balancers []*Balancer
}

// Network is what nodes, balancers and the operator have addresses of: a private range that the pod and service
// networks leave alone. The operator's place is its first address.
const (
	Network         = "10.77.0.0/24"
	OperatorAddress = "10.77.0.1"
	prefixLength    = 24
)

// shortly bounds the small programs that are run here: ip, mount.
const shortly = 30 * time.Second

// Open makes the switch. What an earlier Host in the same directory left behind is removed first; a Host that is still
// alive is an error.
func Open(o Options) (*Host, error) {
	if err := Possible(); err != nil {
		return nil, err
	}
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	h := &Host{o: o, images: map[string]string{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if err := h.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening rung in %s: %w", o.Dir, err), h.Close())
	}
	return h, nil
}

func (h *Host) open() error {
	if err := os.MkdirAll(filepath.Join(h.o.Dir, "nodes"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(h.marker(), []byte("This file must not be visible from within a node.\n"), 0o644); err != nil {
		return err
	}
	var err error
	if h.lock, err = lockFile(filepath.Join(h.o.Dir, "lock")); err != nil {
		return err
	}
	if h.groups, err = findGroups(h.o.Dir); err != nil {
		return err
	}
	if err := h.groups.remove(""); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	for name, text := range map[string]string{"boot.sh": bootScript, "join.sh": joinScript} {
		if err := os.WriteFile(filepath.Join(h.o.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := h.changeSettings(); err != nil {
		return err
	}
	return h.makeSegment()
}

// marker is a file by which a node's boot script knows that it still sees the host's files, and must not go on.
func (h *Host) marker() string { return filepath.Join(h.o.Dir, "marker-of-the-host") }

// makeSegment makes the namespaces in which the switch and the images' mounts are.
func (h *Host) makeSegment() error {
	var err error
	if h.segment, err = h.newNamespace("--mount", "--propagation=private"); err != nil {
		return err
	}
	for _, line := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0"},
		{"ip", "address", "add", fmt.Sprintf("%s/%d", OperatorAddress, prefixLength), "dev", "br0"},
		{"ip", "link", "set", "br0", "up"},
	} {
		if err := h.segment.run(h.ctx, line...); err != nil {
			return err
		}
	}
	h.noDummy = h.segment.run(h.ctx, "ip", "link", "add", "probe", "type", "dummy") != nil
	if !h.noDummy {
		return h.segment.run(h.ctx, "ip", "link", "delete", "probe")
	}
	return nil
}

// Close cuts every node's power and removes all but their directories.
func (h *Host) Close() error {
	h.mu.Lock()
	nodes, balancers := h.nodes, h.balancers
	h.nodes, h.balancers = nil, nil
	h.mu.Unlock()
	var errs []error
	for _, b := range balancers {
		b.remove()
	}
	for _, n := range nodes {
		errs = append(errs, n.PowerOff())
	}
	if h.segment != nil {
		h.segment.end()
	}
	h.cancel()
	if h.lock != nil { // without it, what is there belongs to another Host
		errs = append(errs, h.groups.remove(""), h.restoreSettings(), h.lock.Close())
	}
	return errors.Join(errs...)
}

// Kubectl runs kubectl, from the image that the first node was booted from, where the operator is: on the switch.
func (h *Host) Kubectl(ctx context.Context, kubeconfig string, args ...string) (string, error) {
	root, err := h.kubectlRoot()
	if err != nil {
		return "", err
	}
	// There, this process's working directory is another one.
	if kubeconfig, err = filepath.Abs(kubeconfig); err != nil {
		return "", err
	}
	args = append([]string{filepath.Join(root, kubectlInRoot), "--kubeconfig=" + kubeconfig}, args...)
	out, err := command.Output(ctx, command.Exec{}, h.segment.command(args...))
	return string(out), err
}

// Operate runs a program of this machine where the operator is: on the switch. It knows no proxy of this machine's.
func (h *Host) Operate(ctx context.Context, args ...string) (string, error) {
	c := h.segment.command(args...)
	c.CleanEnv, c.Env = true, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	out, err := command.Output(ctx, command.Exec{}, c)
	return string(out), err
}

// kubectlInRoot is where the payload has it: the link in /usr/bin is absolute and leads out of a root that is not mounted at /.
const kubectlInRoot = "usr/lib/kiln/payload/usr/bin/kubectl"

func (h *Host) kubectlRoot() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.nodes {
		if n.image.kubectl {
			return n.image.root, nil
		}
	}
	return "", errors.New("no node of this host has an image with kubectl")
}

// lockFile keeps two Hosts from the same directory. The lock ends with the process.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s is in use by another process: %w", path, err)
	}
	return file, nil
}
