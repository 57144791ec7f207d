// Package cluster defines the Identity document: who a node is and which cluster it becomes part of.
package cluster

import (
	_ "embed"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// IdentityKind is the document's kind.
const IdentityKind = "Identity"

// Identity tells one node who it is and which cluster to initialise or to join.
type Identity struct {
	document.Header
	// Release names the release that the node's image must carry, as in v1.36.
	Release string `json:"release"`
	// Node says who this node is.
	Node Node `json:"node"`
	// Cluster says which cluster it belongs to.
	Cluster Cluster `json:"cluster"`
	// Install makes a live system write itself to a disk and boot that, instead of running from memory. A system that
	// booted from its disk takes no notice of it.
	Install *Install `json:"install,omitempty"`
	// Bootstrap holds the secrets that the node needs once.
	Bootstrap Bootstrap `json:"bootstrap"`
}

// Install says which disk a live system installs itself to.
type Install struct {
	// Disk is a rule that exactly one disk of the machine has to fit, never the first of several: path:/dev/NAME,
	// serial:TEXT, wwn:TEXT, model:TEXT or size:>=100GiB, or several of them joined by commas, which must all hold.
	Disk string `json:"disk"`
	// Wipe lets the installer destroy what the disk holds, a node that has joined included: any word, such as a date or a
	// ticket. The disk remembers the word, and the same one never wipes it again, however often the machine boots the live
	// system. Without a word, a disk that is not blank is refused.
	Wipe string `json:"wipe,omitempty"`
	// Boot is how the installed system is started: kexec (at once, without the firmware), reboot, or poweroff for a machine
	// that is to be started elsewhere. By default kexec where the machine can, else reboot.
	Boot string `json:"boot,omitempty"`
}

// Node is one machine's part of an identity.
type Node struct {
	// Name becomes the hostname and the Node object's name: a DNS label in lower case. The members of a pool name
	// themselves: there it is a pattern with ${hostname}, ${mac}, ${uuid} or ${serial}, as in worker-${serial}; without one,
	// the name is the hostname that the machine got from its metadata or its network.
	Name string `json:"name,omitempty"`
	// Pool is set in an identity that several machines share: the pool's name.
	Pool string `json:"pool,omitempty"`
	// Role is control-plane or worker; the image's profile must have the same.
	Role string `json:"role"`
	// Initialise makes this node found the cluster. Exactly one node of a cluster has it.
	Initialise bool `json:"initialise,omitempty"`
	// Address is the node's IP address in the cluster's network. The API server advertises it and the kubelet uses it. A
	// member of a pool may leave it out: it then has the one address of its interfaces that lies in subnet or, without a
	// subnet, the one from which it reaches the endpoint.
	Address string `json:"address,omitempty"`
	// SecondaryAddress is the node's address of the other family in a dual-stack cluster.
	SecondaryAddress string `json:"secondaryAddress,omitempty"`
	// Subnet is where the members of a pool have their address (CIDR).
	Subnet string `json:"subnet,omitempty"`
	// Match is what the machine has to be. On another machine the identity is refused.
	Match *Match `json:"match,omitempty"`
	// Zone becomes the label topology.kubernetes.io/zone.
	Zone string `json:"zone,omitempty"`
	// Region becomes the label topology.kubernetes.io/region.
	Region string `json:"region,omitempty"`
	// Labels are put on the Node object.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints replace the taints of the profile and the role when given; an empty list leaves the node without any.
	Taints *[]profile.Taint `json:"taints,omitempty"`
	// ProviderID identifies the machine to a cloud controller, as in aws:///eu-west-1a/i-0123.
	ProviderID string `json:"providerID,omitempty"`
	// Kubelet holds fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1) for this node alone; they win over the
	// profile's and the cluster's.
	Kubelet map[string]any `json:"kubelet,omitempty"`
	// Network is how the machine reaches its network; without it, every interface asks a DHCP server. It holds in the initramfs
	// of a live boot, too, when the identity is found without a network.
	Network *MachineNetwork `json:"network,omitempty"`
	// Registration is what the cluster's operator lets this node be, signed with the cluster's certificate authority: see
	// Statement. A control plane puts on the Node what a kubelet may not give itself. It is no secret.
	Registration string `json:"registration,omitempty"`
}

// Match names a machine by what cannot be copied to another by mistake. All fields that are given have to fit.
type Match struct {
	// Hostname is the name that the machine has from its metadata or network before kiln names it.
	Hostname string `json:"hostname,omitempty"`
	// MAC is the hardware address of one of its interfaces, as in 52:54:00:12:34:56.
	MAC string `json:"mac,omitempty"`
	// UUID is the product UUID of its firmware (DMI).
	UUID string `json:"uuid,omitempty"`
	// Serial is the product serial number of its firmware (DMI).
	Serial string `json:"serial,omitempty"`
}

// Cluster is what all nodes of a cluster have in common.
type Cluster struct {
	// Name names the cluster in kubeconfigs.
	Name string `json:"name"`
	// Endpoint is the load balancer's host:port, through which every node reaches the API.
	Endpoint string `json:"endpoint"`
	// CertificateNames are further host names and addresses that the API server's certificate is valid for.
	CertificateNames []string `json:"certificateNames,omitempty"`
	// PodSubnet is the pods' address range (CIDR); default 10.244.0.0/16. A dual-stack cluster has two, one of each family,
	// with a comma between.
	PodSubnet string `json:"podSubnet,omitempty"`
	// ServiceSubnet is the services' address range (CIDR); default 10.96.0.0/12. A dual-stack cluster has two.
	ServiceSubnet string `json:"serviceSubnet,omitempty"`
	// DNSDomain is the cluster's DNS domain; default cluster.local.
	DNSDomain string `json:"dnsDomain,omitempty"`
	// ControlPlanes are those that were planned when the cluster's identities were first rendered. Only the initialising
	// node has the list: it asks each of them whether a cluster lives before it founds one.
	ControlPlanes []ControlPlane `json:"controlPlanes,omitempty"`
	// Customisation changes what kubeadm sets up.
	Customisation Customisation `json:"customisation,omitzero"`
}

// ControlPlane is one planned control plane.
type ControlPlane struct {
	// Name is the Node's name.
	Name string `json:"name"`
	// Address is its IP address.
	Address string `json:"address"`
}

// Bootstrap holds secrets. An identity is a secret as a whole: keep it at mode 0600.
type Bootstrap struct {
	// Token is a bootstrap token, [a-z0-9]{6}.[a-z0-9]{16}.
	Token document.Secret `json:"token"`
	// TokenTTL is how long the token is valid, counted from the founding of the cluster, as in 24h; 0s is for ever. Default
	// 24h.
	TokenTTL string `json:"tokenTTL,omitempty"`
	// CertificateKey is 64 hexadecimal digits, the key that uploaded certificates are encrypted with. Control planes that
	// have it, and no authorities' keys, download the certificates from the cluster.
	CertificateKey document.Secret `json:"certificateKey,omitzero"`
	// Authorities are the certificate authorities made before the first boot; without them the initialising node makes its
	// own. A node that joins needs at least cluster.certificate: by it the node knows its cluster.
	Authorities *Authorities `json:"authorities,omitempty"`
}

// Authorities is the set of files that the kubeadm high-availability guide copies between control planes, as PEM text.
type Authorities struct {
	// Cluster signs the API server's and the clients' certificates (ca.crt, ca.key).
	Cluster KeyPair `json:"cluster"`
	// FrontProxy signs the certificates of API aggregation (front-proxy-ca.crt, .key).
	FrontProxy KeyPair `json:"frontProxy,omitzero"`
	// Etcd signs etcd's certificates (etcd/ca.crt, .key).
	Etcd KeyPair `json:"etcd,omitzero"`
	// ServiceAccount is the key pair that signs service account tokens (sa.pub, sa.key).
	ServiceAccount ServiceAccountKey `json:"serviceAccount,omitzero"`
}

// KeyPair is a certificate and its private key.
type KeyPair struct {
	// Certificate is PEM.
	Certificate string `json:"certificate"`
	// Key is PEM; workers do not get one.
	Key document.Secret `json:"key,omitzero"`
}

// ServiceAccountKey is a bare key pair.
type ServiceAccountKey struct {
	// Public is PEM.
	Public string `json:"public"`
	// Key is PEM.
	Key document.Secret `json:"key,omitzero"`
}

// Defaults of the cluster's networks, kubeadm's and flannel's own.
const (
	DefaultPodSubnet     = "10.244.0.0/16"
	DefaultServiceSubnet = "10.96.0.0/12"
	DefaultDNSDomain     = "cluster.local"
	DefaultTokenTTL      = "24h"
)

// Text is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed identity.go
var Text string
