// Package nodefs names every path on a node that the builder bakes and firstboot reads, once.
package nodefs

import "path/filepath"

// Paths baked into the read-only root.
const (
	// Dir holds everything kiln bakes into the root besides programs and units.
	Dir = "/usr/lib/kiln"
	// Node is the description of the image that this root was built for: see image.Node.
	Node = Dir + "/node.json"
	// Release and Profile are the documents the root was built from.
	Release = Dir + "/release.json"
	Profile = Dir + "/profile.json"
	// Payload is where the payload's squashfs is mounted: the release's binaries, each at its own path below, and the
	// layer cache. It lies behind the system's squashfs in the root partition, under the same root hash.
	Payload = Dir + "/payload"
	// Layers is the EROFS layer cache of the container images: <algorithm>/<xx>/<hex>.erofs, by diffID. It must be
	// reached on the squashfs itself, never through an overlay.
	Layers = Payload + "/layers"
	// ContainerImages is an OCI archive of the container images' indexes, manifests and configs, without layer blobs.
	ContainerImages = Dir + "/container-images.tar"
	// Addons holds the manifests that the initialising node applies, *.yaml.
	Addons = Dir + "/addons"
	// Modules follows Debian's merged /usr.
	Modules = "/usr/lib/modules"
	// Firstboot is the program; in the initramfs it is /init.
	Firstboot = "/usr/bin/firstboot"
	Kubeadm   = "/usr/bin/kubeadm"
	Ctr       = "/usr/bin/ctr"
	// Networkctl makes systemd-networkd read its configuration again.
	Networkctl = "/usr/bin/networkctl"
	Systemctl  = "/usr/bin/systemctl"
	// GuestInfoTool asks VMware's hypervisor what the virtual machine was given (Debian's open-vm-tools).
	GuestInfoTool = "/usr/bin/vmware-rpctool"
	// CNIPlugins and CNIConfig are containerd's bin_dir and conf_dir. The latter is made anew on each boot, so that a
	// node is Ready only once its pod network is.
	CNIPlugins = "/usr/lib/cni"
	CNIConfig  = "/run/cni/net.d"
	// RepartDefinitions describe the partitions that a node adds to its disk on first boot, in the form of repart.d. They
	// are not in /usr/lib/repart.d, where systemd-repart.service would find them and do it all again on every boot.
	RepartDefinitions = Dir + "/repart.d"
)

// Paths on the state partition, which is mounted at /var.
const (
	State = "/var"
	// KilnState holds what kiln keeps on a node.
	KilnState = "/var/lib/kiln"
	// EtcUpper and EtcWork are the overlay directories that make /etc writable.
	EtcUpper = KilnState + "/etc/upper"
	EtcWork  = KilnState + "/etc/work"
	// Journal is firstboot's own: one JSON line for each step begun and ended.
	Journal = KilnState + "/firstboot/journal"
	// IdentityCopy is the identity that the node took on, 0600.
	IdentityCopy = KilnState + "/firstboot/identity.json"
	// KubeadmResumeConfig is the same for a join that goes on with this node's own credentials, 0600.
	KubeadmResumeConfig = KilnState + "/firstboot/kubeadm-resume.yaml"
	// FenceState is what a node that would found its cluster keeps: whom it left that to.
	FenceState = KilnState + "/firstboot/fence.json"
	// KubeadmConfig is rendered by firstboot, 0600: it holds the bootstrap token.
	KubeadmConfig = KilnState + "/firstboot/kubeadm.yaml"
	// CertificateKeyConfig is what the initialising node keeps of its secrets, 0600, for as long as control planes are
	// expected that download the certificates: kubeadm's configuration to upload them again, with the certificate key.
	CertificateKeyConfig = KilnState + "/firstboot/certificate-key.yaml"
	// ResetMarker says that the node is leaving its cluster. It is the first file that a reset writes and the last one that
	// it removes: what a power cut interrupted goes on at the next boot.
	ResetMarker = KilnState + "/reset"
	// Patches is the directory of kubeadm patches.
	Patches = KilnState + "/firstboot/patches"
	// VolumePlugins is kubelet's volumePluginDir: outside the read-only /usr.
	VolumePlugins = "/var/lib/kubelet/volumeplugins"
	EtcdData      = "/var/lib/etcd"
	// KubeletState is where the kubelet keeps its own, and where kubeadm writes its configuration.
	KubeletState = "/var/lib/kubelet"
)

// Paths that programs on the node create.
const (
	ContainerdSocket = "/run/containerd/containerd.sock"
	Kubernetes       = "/etc/kubernetes"
	PKI              = Kubernetes + "/pki"
	AdminConfig      = Kubernetes + "/admin.conf"
	KubeletConfig    = Kubernetes + "/kubelet.conf"
	Manifests        = Kubernetes + "/manifests"
	Hostname         = "/etc/hostname"
	Hosts            = "/etc/hosts"
	// NetworkConfig is where systemd-networkd looks for what this node adds.
	NetworkConfig = "/etc/systemd/network"
	// ResolverConfig is where systemd-resolved looks for the same.
	ResolverConfig = "/etc/systemd/resolved.conf.d"
)

// Paths of a live node, below /run: they were there before the root was.
const (
	// BootFacts is where the initramfs leaves what it knows, as JSON.
	BootFacts = "/run/kiln/boot.json"
	// LiveFiles is the tmpfs with the root that was fetched.
	LiveFiles = "/run/kiln/live"
	// Medium is where the medium is mounted that the root is on.
	Medium = "/run/kiln/medium"
	// JournalRuntime is where systemd-journald looks for settings of this boot only.
	JournalRuntime = "/run/systemd/journald.conf.d"
	// NetworkRuntime is where systemd-networkd looks for what belongs to this boot only.
	NetworkRuntime = "/run/systemd/network"
)

// Names of the files of a live set: beside each other on the server, below LiveDir on a medium.
const (
	LiveDir    = "kiln"
	LiveRoot   = "root.img"
	LiveVerity = "root.verity"
)

// Values of kernel parameters.
const (
	// RootDHCP takes the root from the directory of the boot file that DHCP names, RootMedium from a filesystem.
	RootDHCP   = "dhcp"
	RootMedium = "medium"
	// StateMemory keeps the state in memory.
	StateMemory = "memory"
)

// Names on the disk (GPT partition labels and filesystem labels).
const (
	// LabelBIOS is what a BIOS's boot loader lies in.
	LabelBIOS        = "bios"
	LabelESP         = "esp"
	LabelRootA       = "root-a"
	LabelRootAVerity = "root-a-verity"
	LabelRootB       = "root-b"
	LabelRootBVerity = "root-b-verity"
	LabelState       = "kiln-state"
	// LabelInstall is the partition that an installer adds: it carries the identity to the installed system's first boot.
	LabelInstall = "kiln-install"
	// LabelRootCache is a live node's copy of the root that it fetched.
	LabelRootCache = "kiln-root-cache"
	// LabelIdentity is the label of a filesystem or partition that carries an identity.
	LabelIdentity = "KILN"
	// IdentityFile and IgnitionFile are looked for on that filesystem, in this order.
	IdentityFile = "identity.yaml"
	IgnitionFile = "config.ign"
	// IdentityInIgnition is the path of the file in an Ignition config that holds the identity.
	IdentityInIgnition = "/etc/kiln/identity.yaml"
)

// Kernel command line parameters.
const (
	ParamPlatform = "kiln.platform"
	ParamRootHash = "roothash"
	// ParamShell asks the initramfs for a shell instead of a reboot when it fails.
	ParamShell = "kiln.shell"
	// ParamRootWait is how many seconds the initramfs waits for the root's partitions.
	ParamRootWait = "kiln.rootwait"
	// ParamRoot says where the root comes from when it is not on a disk: a URL of root.img, dhcp or medium.
	ParamRoot = "kiln.root"
	// ParamRootCA pins the certificate of the https server that has the root: its SHA-256, or that of its authority.
	ParamRootCA = "kiln.root.ca"
	// ParamState says where a live node keeps its state: memory, or a rule that picks a disk (firstboot/disks).
	ParamState = "kiln.state"
	// ParamIP, ParamVLAN, ParamBond and ParamNameserver are dracut's: the network that the root is fetched over.
	ParamIP         = "ip"
	ParamVLAN       = "vlan"
	ParamBond       = "bond"
	ParamNameserver = "nameserver"
	// ParamReboot is how many seconds a failure of the initramfs stays on the console before the machine restarts.
	ParamReboot = "kiln.reboot"
	// ParamInstall is the rule that picks the disk to install to; without it a live system runs as it is.
	ParamInstall = "kiln.install"
	// ParamInstallWipe lets the installer destroy what the disk holds, once for each value; no value is one, too.
	ParamInstallWipe = "kiln.install.wipe"
	// ParamInstallSHA256 is the SHA-256 of the live set's install.json.
	ParamInstallSHA256 = "kiln.install.sha256"
	// ParamIdentity is the URL of the identity, with ${mac}, ${uuid}, ${serial} and ${hostname}.
	ParamIdentity = "kiln.identity"
	// ParamIdentityCA is the SHA-256 of a certificate that the identity's https server has to show: its own or an authority's.
	ParamIdentityCA = "kiln.identity.ca"
	// ParamIdentitySHA256 is the SHA-256 of what lies at the identity's URL.
	ParamIdentitySHA256 = "kiln.identity.sha256"
	// ParamIdentityDHCP is the number of the DHCP option that holds the identity's URL, as in 224 or 43.1.
	ParamIdentityDHCP = "kiln.identity.dhcp"
	// ParamIdentityWait is how many seconds the network may take to give an identity.
	ParamIdentityWait = "kiln.identity.wait"
)

// Credentials of systemd, by way of SMBIOS, fw_cfg, the kernel command line or the ESP.
const (
	// CredentialIdentity is the name of the one that holds an identity.
	CredentialIdentity = "kiln.identity"
	// UnitCredentials are those that firstboot's unit imports, unpacked; SystemCredentials those that the system was given.
	UnitCredentials   = "/run/credentials/firstboot.service"
	SystemCredentials = "/run/credentials/@system"
)

// Root places the paths of a node below a directory: "/" on a node, a temporary directory in a test.
type Root string

// Path is where path lies below the root.
func (r Root) Path(path string) string { return filepath.Join(string(r), path) }
