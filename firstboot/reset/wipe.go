package reset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const (
	kubeletState = "/var/lib/kubelet"
	cniState     = "/var/lib/cni"
	flannelState = "/run/flannel"
	firstboot    = nodefs.KilnState + "/firstboot"
	// noKubeconfig is nowhere: with it kubeadm asks no API, which it would wait for minutes for.
	noKubeconfig = "/run/kiln/none"
	nft          = "/usr/sbin/nft"
)

// kubeadmReset runs kubeadm's own clean-up, all but its handling of etcd: the member is removed already, and asked again
// kubeadm could only fail or remove what it should not.
func (l *leaving) kubeadmReset(ctx context.Context) (string, error) {
	_, err := l.m.Runner.Run(ctx, command.Command{Name: nodefs.Kubeadm, Args: []string{"reset", "--force", "--cleanup-tmp-dir",
		"--skip-phases=remove-etcd-member", "--kubeconfig=" + noKubeconfig, "--cri-socket=unix://" + l.m.Root.Path(nodefs.ContainerdSocket)}})
	if err != nil {
		return "", fmt.Errorf("running kubeadm reset: %w", err)
	}
	return "done", nil
}

// rules removes the tables of kube-proxy (kubernetes, pkg/proxy/nftables) and flannel (pkg/trafficmngr/nftables), and minds
// none that is missing.
const rules = "destroy table ip kube-proxy\ndestroy table ip6 kube-proxy\ndestroy table ip flannel-ipv4\ndestroy table ip6 flannel-ipv6\n"

// network does what the kubeadm guide leaves to people: the pod network's interfaces, rules and configuration, and what
// the first boot added to the machine's own network.
func (l *leaving) network(ctx context.Context) (string, error) {
	var gone []string
	for _, name := range []string{"cni0", "flannel.1", "flannel-v6.1", "kiln-services"} {
		if l.has("/sys/class/net/" + name) {
			gone = append(gone, name)
		}
	}
	added := []string{nodefs.NetworkConfig + "/*-kiln*", nodefs.ResolverConfig + "/*-kiln*", nodefs.CNIConfig + "/*", flannelState}
	for _, pattern := range added {
		paths, err := filepath.Glob(l.m.Root.Path(pattern))
		if err != nil {
			return "", err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return "", fmt.Errorf("removing network configuration: %w", err)
			}
		}
	}
	commands := []command.Command{
		{Name: nft, Args: []string{"-f", "-"}, Stdin: strings.NewReader(rules)},
		{Name: nodefs.Networkctl, Args: []string{"reload"}},
		// Its path unit waits for the next subnet only once it is stopped.
		{Name: nodefs.Systemctl, Args: []string{"stop", "kiln-cni.service"}},
	}
	if len(gone) > 0 {
		commands = append(commands, command.Command{Name: nodefs.Networkctl, Args: append([]string{"delete"}, gone...)})
	}
	for _, c := range commands {
		if _, err := l.m.Runner.Run(ctx, c); err != nil {
			return "", fmt.Errorf("removing the pod network: %w", err)
		}
	}
	return fmt.Sprintf("%d interfaces are gone", len(gone)), nil
}

// wipe removes the state. What tells that there is something to finish goes last.
func (l *leaving) wipe(context.Context) (string, error) {
	for _, directory := range []string{nodefs.Kubernetes, kubeletState, nodefs.EtcdData, cniState} {
		if err := l.m.empty(directory); err != nil {
			return "", err
		}
	}
	if err := l.m.unname(); err != nil {
		return "", err
	}
	if err := l.m.empty(firstboot); err != nil {
		return "", err
	}
	// On the disk before the marker goes: a journal or an identity that came back would be taken for true.
	l.m.Sync()
	if err := os.Remove(l.m.Root.Path(nodefs.ResetMarker)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("removing marker: %w", err)
	}
	return "state and secrets are gone", syncDirectory(l.m.Root.Path(nodefs.KilnState))
}

// empty removes all that is in a directory. What is mounted there is somebody's data and not this node's: it is an error.
func (m *Machine) empty(directory string) error {
	mounted, err := m.mountsBelow(directory)
	if err != nil {
		return err
	}
	if len(mounted) > 0 {
		return fmt.Errorf("wiping %s: still mounted there: %s; end what uses it", directory, strings.Join(mounted, ", "))
	}
	entries, err := os.ReadDir(m.Root.Path(directory))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wiping %s: %w", directory, err)
	}
	for _, entry := range entries {
		// A disk of its own keeps what its file system put there.
		if entry.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(m.Root.Path(directory), entry.Name())); err != nil {
			return fmt.Errorf("wiping %s: %w", directory, err)
		}
	}
	return nil
}

// mountsBelow lists what is mounted below a directory, without the directory itself.
func (m *Machine) mountsBelow(directory string) ([]string, error) {
	table, err := os.ReadFile(m.Root.Path("/proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	var below []string
	for line := range strings.Lines(string(table)) {
		// proc_pid_mountinfo(5): the fifth field is the mount point, with spaces as \040.
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], directory+"/") {
			below = append(below, fields[4])
		}
	}
	return below, nil
}

// unname gives the machine back the name that it had before its first boot.
func (m *Machine) unname() error {
	if err := os.Remove(m.Root.Path(nodefs.Hostname)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing hostname: %w", err)
	}
	name, _ := os.ReadFile(m.Root.Path(firstboot + "/hostname"))
	before := strings.TrimSpace(string(name))
	if before == "" {
		before = "localhost"
	}
	if err := m.SetHostname(before); err != nil {
		return fmt.Errorf("setting hostname: %w", err)
	}
	return nil
}
