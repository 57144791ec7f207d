package bootstrap

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/internal/profile"
)

// ports are those that this node's programs will listen on, with their names. They are the kubeadm page's; 2378 is where
// a node that founds a cluster asks the others whether they do, too.
func (p plan) ports() map[int]string {
	ports := map[int]string{10250: "the kubelet"}
	if p.o.Identity.Node.Role == profile.ControlPlane {
		ports[6443], ports[10257], ports[10259] = "the API server", "the controller manager", "the scheduler"
		ports[2379], ports[2380] = "etcd", "etcd"
	}
	if p.o.Identity.Node.Initialise {
		ports[2378] = "the founding of the cluster"
	}
	return ports
}

// portFindings are the ports that another program holds. Whoever it is may end.
func (p plan) portFindings() []finding {
	wanted := p.ports()
	held := p.m.listeners()
	var findings []finding
	for _, port := range slices.Sorted(maps.Keys(wanted)) {
		inode, taken := held[port]
		if !taken {
			continue
		}
		by := "another program"
		if name := p.m.holder(inode); name != "" {
			by = name
		}
		findings = append(findings, finding{check: fmt.Sprintf("Port-%d", port), mends: true, text: fmt.Sprintf(
			"machine: port %d: is held by %s, and %s needs it; end that program, or let it listen elsewhere", port, by, wanted[port])})
	}
	return findings
}

// listening is the state of a TCP socket that accepts connections (include/net/tcp_states.h: TCP_LISTEN).
const listening = "0A"

// listeners maps the TCP ports that somebody listens on, at whatever address, to the socket's inode. It reads the
// kernel's tables (Documentation/networking/proc_net_tcp.rst): a bind to try it out would meet the same sockets, and say
// nothing about whose they are.
func (m *Machine) listeners() map[int]string {
	held := map[int]string{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for line := range strings.Lines(m.line(table)) {
			words := strings.Fields(line)
			if len(words) < 10 || words[3] != listening {
				continue
			}
			_, hexadecimal, _ := strings.Cut(words[1], ":")
			if port, err := strconv.ParseUint(hexadecimal, 16, 16); err == nil {
				held[int(port)] = words[9]
			}
		}
	}
	return held
}

// holder names the process that has the socket open, as in haproxy (process 812); empty when that cannot be seen.
func (m *Machine) holder(inode string) string {
	processes, _ := filepath.Glob(m.Root.Path("/proc/[0-9]*"))
	for _, process := range processes {
		descriptors, _ := os.ReadDir(filepath.Join(process, "fd"))
		for _, descriptor := range descriptors {
			if target, err := os.Readlink(filepath.Join(process, "fd", descriptor.Name())); err != nil || target != "socket:["+inode+"]" {
				continue
			}
			name, _ := os.ReadFile(filepath.Join(process, "comm"))
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
		}
	}
	return ""
}
