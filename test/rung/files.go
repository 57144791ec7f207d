package rung

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/firstboot/initramfs"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// sysctls are settings that a node insists on, below /proc/sys: sysctl.d of the image sets some, the kubelet others
// (pkg/kubelet/cm, setupKernelTunables). Each node has files of its own in their places.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1\n",
	"vm/panic_on_oom":           "0\n",
	"kernel/panic":              "10\n",
	"kernel/panic_on_oops":      "1\n",
	"kernel/keys/root_maxkeys":  "1000000\n",
	"kernel/keys/root_maxbytes": "25000000\n",
}

// tree collects files to write, path to content.
type tree map[string]string

// write makes dir hold exactly these files.
func (t tree) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for path, content := range t {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") || strings.HasPrefix(content, "\x7fELF") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			return err
		}
	}
	return nil
}

// writeMachine writes what boot.sh makes a machine of: all but its disk and its identity.
func (n *Node) writeMachine() error {
	runFiles, err := n.runFiles()
	if err != nil {
		return err
	}
	bound, err := n.boundFiles()
	if err != nil {
		return err
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/uuid") // a new one for each reader
	if err != nil {
		return err
	}
	n.bootID = strings.TrimSpace(string(bootID))
	settings := tree{"kernel/random/boot_id": string(bootID)}
	for path, value := range sysctls {
		settings[path] = value
	}
	var hierarchies, joined strings.Builder
	for _, h := range n.host.groups.hierarchies {
		fmt.Fprintln(&hierarchies, h.dir, h.kind, h.options)
		fmt.Fprintln(&joined, n.host.groups.path(h, n.o.Name))
	}
	for dir, files := range map[string]tree{
		"run": runFiles, "bind": bound, "sysctl": settings,
		"dmi": {"product_uuid": n.o.UUID + "\n", "product_serial": n.o.Serial + "\n", "sys_vendor": "kiln\n", "product_name": "rung\n"},
	} {
		if err := files.write(n.path(dir)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"cmdline": n.image.CommandLine + "\n", "cgroups": hierarchies.String(), "groups": joined.String()} {
		if err := os.WriteFile(n.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cable is the configuration of eth0. It has no default route and no name server.
const cable = `[Match]
Name=eth0

[Network]
Address=%s/%d
LinkLocalAddressing=no
IPv6AcceptRA=no
`

// services stands in, where the host's kernel has no dummy devices, for the route to the services' addresses that firstboot
// gives a node without a default route (firstboot/bootstrap/network.go): %s is the default service subnet, %s the node.
const services = `[Match]
Name=` + servicesDevice + `

[Link]
RequiredForOnline=no

[Network]
LinkLocalAddressing=no
ConfigureWithoutCarrier=yes

[Route]
Destination=%s
PreferredSource=%s
Scope=link
Metric=4096
`

const servicesDevice = "rung-services"

// runFiles are what a machine finds in /run: what the initramfs knows, and how eth0 is configured.
func (n *Node) runFiles() (tree, error) {
	platform := ""
	for _, word := range strings.Fields(n.image.CommandLine) {
		if value, ok := strings.CutPrefix(word, nodefs.ParamPlatform+"="); ok {
			platform = value
		}
	}
	entries, err := os.ReadDir(n.path("var"))
	if err != nil {
		return nil, err
	}
	boot, err := json.MarshalIndent(initramfs.Boot{
		RootHash: n.image.RootHash, Platform: platform, RootDevice: "/dev/vda2", RootLabel: nodefs.LabelRootA,
		StateDevice: "/dev/vda6", StateCreated: len(entries) == 0, Modules: []string{}, Steps: []initramfs.Timing{},
	}, "", "  ")
	files := tree{
		strings.TrimPrefix(initramfs.BootFile, "/run/"): string(boot) + "\n",
		"systemd/network/10-rung.network":               fmt.Sprintf(cable, n.o.Address, prefixLength),
	}
	if n.host.noDummy {
		files["systemd/network/11-rung-services.network"] = fmt.Sprintf(services, cluster.DefaultServiceSubnet, n.o.Address)
	}
	return files, err
}

// kubeadmShim skips the one check that a machine of this kind cannot pass: of the kernel's configuration and cgroups.
const kubeadmShim = `#!/bin/sh
case "$1 ${2-}" in
  "init phase"|"join phase") exec /run/rung/kubeadm "$@" ;;
  init\ *|join\ *) exec /run/rung/kubeadm "$@" --ignore-preflight-errors=SystemVerification ;;
esac
exec /run/rung/kubeadm "$@"
`

// The kubelet's configuration where the node is no machine of its own; a patch has kubeadm's last word. cgroupPatch is for a
// host with cgroup v1. diskPatch is for a disk that belongs to the host: how full it is says nothing of the node, and a
// kubelet that is short of disk takes no pods.
const (
	cgroupPatch = "cgroupDriver: cgroupfs\nfailCgroupV1: false\n"
	diskPatch   = "evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%, imagefs.inodesFree: 1%}\n"
)

// boundFiles are the files of the root that are not the image's: by path, without the leading slash.
func (n *Node) boundFiles() (tree, error) {
	config, err := n.containerdConfig()
	if err != nil {
		return nil, err
	}
	p, err := n.image.profile(n.host)
	if err != nil {
		return nil, err
	}
	if p.Patches == nil {
		p.Patches = map[string]string{}
	}
	patch := diskPatch
	if n.host.groups.legacy() {
		patch += cgroupPatch
	}
	p.Patches["kubeletconfiguration9+merge.yaml"] = patch
	document, err := profileText(p)
	if err != nil {
		return nil, err
	}
	files := tree{
		"etc/containerd/config.toml":             config,
		rel(nodefs.Profile):                      document,
		rel(nodefs.Payload) + "/usr/bin/kubeadm": kubeadmShim,
	}
	if n.host.o.Firstboot != "" {
		text, err := os.ReadFile(n.host.o.Firstboot)
		if err != nil {
			return nil, err
		}
		files[rel(nodefs.Firstboot)] = string(text)
	}
	return files, nil
}

func rel(path string) string { return strings.TrimPrefix(path, "/") }

func profileText(p profile.Profile) (string, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	return string(text) + "\n", err
}

// containerdConfig is the image's own with two settings for a host without CAP_SYS_RESOURCE, where the score of the OOM
// killer can only be raised, and with cgroup v1, where systemd in a cgroup namespace cannot delegate.
func (n *Node) containerdConfig() (string, error) {
	text, err := n.image.read(n.host, "/etc/containerd/config.toml")
	if err != nil {
		return "", err
	}
	config := string(text)
	const runtime = "[plugins.'io.containerd.cri.v1.runtime']\n"
	for _, change := range [][2]string{
		{runtime, runtime + "  restrict_oom_score_adj = true\n"},
		{"SystemdCgroup = true", fmt.Sprintf("SystemdCgroup = %t", !n.host.groups.legacy())},
	} {
		if strings.Count(config, change[0]) != 1 {
			return "", fmt.Errorf("containerd's configuration in the image has not one %q", change[0])
		}
		config = strings.Replace(config, change[0], change[1], 1)
	}
	return config, nil
}

// SetIdentity gives the machine an Ignition config, as QEMU's -fw_cfg would, for this boot or the next; nil takes it away.
func (n *Node) SetIdentity(ignition []byte) error {
	raw := n.path("firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw")
	if ignition == nil {
		return os.RemoveAll(filepath.Dir(raw))
	}
	if err := os.MkdirAll(filepath.Dir(raw), 0o755); err != nil {
		return err
	}
	partial := raw + "." + rand.Text()[:8]
	if err := os.WriteFile(partial, ignition, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, raw)
}
