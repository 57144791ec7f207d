package cluster

import (
	_ "embed"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// Kind is the kind of the Cluster document.
const Kind = "Cluster"

// Ways in which a control plane that joins gets the cluster's certificates, those of the kubeadm high-availability guide.
const (
	// Staged puts the certificate authorities into each control plane's identity: no upload, no limit of time.
	Staged = "staged"
	// Uploaded keeps them in the cluster, encrypted with a key that each control plane's identity has.
	Uploaded = "uploaded"
)

// Definition is the Cluster document (cluster.yaml): one cluster as its operator wants it. `kiln cluster render` makes an
// identity for each node and each pool from it.
type Definition struct {
	document.Header
	// Name names the cluster in kubeconfigs.
	Name string `json:"name"`
	// Release names the release that the nodes' images carry, as in v1.36.
	Release string `json:"release"`
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
	// Certificates is how joining control planes get the certificate authorities: staged (each identity carries them; the
	// default) or uploaded (they lie in the cluster, encrypted, while control planes are expected).
	Certificates string `json:"certificates,omitempty"`
	// TokenTTL is how long machines may take to join, counted from the founding of the cluster, as in 24h; 0s is for ever.
	// Default 24h.
	TokenTTL string `json:"tokenTTL,omitempty"`
	// IsolateControlPlanes keeps ordinary pods off control planes by a taint; default true. Small clusters set it to false.
	IsolateControlPlanes *bool `json:"isolateControlPlanes,omitempty"`
	// Customisation changes what kubeadm sets up.
	Customisation Customisation `json:"customisation,omitzero"`
	// Nodes are the machines that are known one by one. Exactly one control plane initialises.
	Nodes []DefinedNode `json:"nodes"`
	// Pools are machines that share one identity and name themselves.
	Pools []Pool `json:"pools,omitempty"`
}

// DefinedNode is one machine of a Cluster document.
type DefinedNode struct {
	// Name becomes the hostname and the Node object's name: a DNS label in lower case.
	Name string `json:"name"`
	// Role is control-plane or worker.
	Role string `json:"role"`
	// Initialise makes this node found the cluster.
	Initialise bool `json:"initialise,omitempty"`
	// Address is the node's IP address in the cluster's network.
	Address string `json:"address"`
	// SecondaryAddress is the node's address of the other family in a dual-stack cluster.
	SecondaryAddress string `json:"secondaryAddress,omitempty"`
	// Match is what the machine has to be, by hostname, mac, uuid or serial.
	Match *Match `json:"match,omitempty"`
	Common
}

// Pool is a group of machines that are alike.
type Pool struct {
	// Name is the pool's name; the label kiln.dev/pool of its members.
	Name string `json:"name"`
	// Role is worker: control planes have to be known one by one.
	Role string `json:"role"`
	// NodeName is the pattern of the members' names, with ${hostname}, ${mac}, ${uuid} or ${serial}; default ${hostname}.
	NodeName string `json:"nodeName,omitempty"`
	// Subnet is where the members have their address (CIDR); without it, a member's address is the one from which it
	// reaches the endpoint.
	Subnet string `json:"subnet,omitempty"`
	Common
}

// Common is what nodes and pools have in common.
type Common struct {
	// Zone becomes the label topology.kubernetes.io/zone.
	Zone string `json:"zone,omitempty"`
	// Region becomes the label topology.kubernetes.io/region.
	Region string `json:"region,omitempty"`
	// Labels are put on the Node object. A control plane sets those that a kubelet may not give itself.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints replace the taints of the profile and the role when given; an empty list leaves the node without any.
	Taints *[]profile.Taint `json:"taints,omitempty"`
	// ProviderID identifies the machine to a cloud controller, as in aws:///eu-west-1a/i-0123.
	ProviderID string `json:"providerID,omitempty"`
	// Kubelet holds fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1) for this node alone.
	Kubelet map[string]any `json:"kubelet,omitempty"`
	// Network is how the machine reaches its network; without it, every interface asks a DHCP server.
	Network *MachineNetwork `json:"network,omitempty"`
	// Install makes a live system write itself to a disk and boot that, instead of running from memory.
	Install *Install `json:"install,omitempty"`
}

// DefinitionText is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed definition.go
var DefinitionText string
