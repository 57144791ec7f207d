package cluster

import (
	"net"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// apiPort is where each control plane's own API server listens (kubeadm's bindPort).
const apiPort = "6443"

// ParseDefinition reads a Cluster document, fills in defaults, and checks it by itself and its nodes against each other;
// file is the name for messages. Warnings are about what works but is rarely meant.
func ParseDefinition(file string, text []byte) (Definition, []string, error) {
	var d Definition
	if err := document.Decode(file, text, Kind, &d); err != nil {
		return Definition{}, nil, err
	}
	d.setDefaults()
	problems, warnings := &document.Problems{File: file}, &document.Problems{File: file}
	checkDefinition(problems, warnings, d)
	var lines []string
	for _, warning := range document.List(warnings.Err()) {
		lines = append(lines, warning.Error())
	}
	return d, lines, problems.Err()
}

func (d *Definition) setDefaults() {
	c := d.Cluster()
	c.setDefaults()
	d.PodSubnet, d.ServiceSubnet, d.DNSDomain = c.PodSubnet, c.ServiceSubnet, c.DNSDomain
	setDefault(&d.Certificates, Staged)
	setDefault(&d.TokenTTL, DefaultTokenTTL)
	if d.IsolateControlPlanes == nil {
		isolate := true
		d.IsolateControlPlanes = &isolate
	}
	for i := range d.Nodes {
		d.Nodes[i].Match.normalise()
	}
	for i := range d.Pools {
		setDefault(&d.Pools[i].NodeName, AnyName)
	}
}

// Cluster is the part of the definition that every node's identity repeats.
func (d Definition) Cluster() Cluster {
	return Cluster{
		Name: d.Name, Endpoint: d.Endpoint, CertificateNames: d.CertificateNames,
		PodSubnet: d.PodSubnet, ServiceSubnet: d.ServiceSubnet, DNSDomain: d.DNSDomain, Customisation: d.Customisation,
	}
}

// Certificates lists the ways in which joining control planes get the certificate authorities.
func Certificates() []string { return []string{Staged, Uploaded} }

func checkDefinition(p, warnings *document.Problems, d Definition) {
	if d.Release == "" {
		p.Add("release", "missing; want the name of the release that the nodes' images carry, as in v1.36")
	}
	if d.Certificates != Staged && d.Certificates != Uploaded {
		p.Add("certificates", "unknown %q; want %s", d.Certificates, strings.Join(Certificates(), " or "))
	}
	checkTTL(p, "tokenTTL", d.TokenTTL)
	networks := checkCluster(p, "", d.Cluster())
	taken := claims{}
	for i, node := range d.Nodes {
		checkDefinedNode(p, indexed("nodes", i), node, networks)
		node.claim(p, indexed("nodes", i), taken)
		if len(networks.services) == 2 && node.SecondaryAddress == "" {
			warnings.Add(indexed("nodes", i)+".secondaryAddress", "missing in a dual-stack cluster; pods on %s that share its network get one address only", node.Name)
		}
	}
	for i, pool := range d.Pools {
		checkDefinedPool(p, indexed("pools", i), pool, networks)
		taken.claim(p, "pool name", indexed("pools", i)+".name", pool.Name)
	}
	checkInitialiser(p, d)
	checkControlPlaneCount(warnings, d)
	checkEndpointAndNodes(p, warnings, d)
}

func checkDefinedNode(p *document.Problems, part string, n DefinedNode, networks networks) {
	checkRequired(p, part+".name", n.Name, isDNSLabel, wantName)
	checkRole(p, part, n.Role, n.Initialise)
	networks.checkNode(p, part, n.Address, n.SecondaryAddress)
	checkMatch(p, part+".match", n.Match)
	checkCommon(p, part, n.Common)
	checkInstall(p, part+".install", n.Install)
}

// claim notes what no other node may have.
func (n DefinedNode) claim(p *document.Problems, part string, taken claims) {
	taken.claim(p, "name", part+".name", n.Name)
	taken.claim(p, "address", part+".address", n.Address)
	taken.claim(p, "address", part+".secondaryAddress", n.SecondaryAddress)
	if m := n.Match; m != nil {
		taken.claim(p, "hostname", part+".match.hostname", m.Hostname)
		taken.claim(p, "MAC address", part+".match.mac", m.MAC)
		taken.claim(p, "UUID", part+".match.uuid", m.UUID)
		taken.claim(p, "serial number", part+".match.serial", m.Serial)
	}
}

func checkDefinedPool(p *document.Problems, part string, pool Pool, networks networks) {
	checkRequired(p, part+".name", pool.Name, isDNSLabel, wantName)
	switch pool.Role {
	case profile.Worker:
	case profile.ControlPlane:
		p.Add(part+".role", "control planes have to be known one by one; give each an entry in nodes, or want %s", profile.Worker)
	default:
		checkRole(p, part, pool.Role, false)
	}
	checkPattern(p, part+".nodeName", pool.NodeName)
	if !strings.Contains(pool.NodeName, "$") {
		p.Add(part+".nodeName", "%q gives all members one name; want a variable in it, as in %s-${serial}", pool.NodeName, pool.NodeName)
	}
	if pool.Subnet != "" {
		networks.checkPool(p, part+".subnet", pool.Subnet)
	}
	checkCommon(p, part, pool.Common)
	checkInstall(p, part+".install", pool.Install)
}

func checkInitialiser(p *document.Problems, d Definition) {
	first := ""
	for i, node := range d.Nodes {
		switch {
		case !node.Initialise:
		case first == "":
			first = node.Name
		default:
			p.Add(indexed("nodes", i)+".initialise", "%s initialises already; set it on one node only, or two clusters would be founded behind one endpoint", first)
		}
	}
	if first == "" {
		p.Add("nodes", "none initialises; set initialise: true on one control plane, which founds the cluster")
	}
}

// ControlPlanes are the definition's control planes in its order.
func (d Definition) ControlPlanes() []DefinedNode {
	var planes []DefinedNode
	for _, node := range d.Nodes {
		if node.Role == profile.ControlPlane {
			planes = append(planes, node)
		}
	}
	return planes
}

// checkControlPlaneCount follows etcd's majority: of n members, (n-1)/2 may be lost.
func checkControlPlaneCount(warnings *document.Problems, d Definition) {
	if n := len(d.ControlPlanes()); n > 0 && n%2 == 0 {
		warnings.Add("nodes", "%d control planes survive the loss of %d, no more than %d would, and one more machine can fail; want an odd number", n, (n-1)/2, n-1)
	}
}

// checkEndpointAndNodes compares the endpoint with the nodes' names and addresses.
func checkEndpointAndNodes(p, warnings *document.Problems, d Definition) {
	host, port, err := net.SplitHostPort(d.Endpoint)
	if err != nil {
		return
	}
	for _, node := range d.Nodes {
		own := sameAddress(host, node.Address) || sameAddress(host, node.SecondaryAddress)
		switch {
		case node.Name != "" && host == node.Name:
			p.Add("endpoint", "%s is a node's own name, which on that node means itself; want the load balancer's name or address", host)
		case own && node.Role == profile.Worker:
			p.Add("endpoint", "%s is the address of worker %s, where no API server listens; want the load balancer's", host, node.Name)
		case own && port != apiPort:
			p.Add("endpoint", "%s is the address of %s, whose API server listens on %s; want %s", d.Endpoint, node.Name, apiPort, net.JoinHostPort(host, apiPort))
		case own && len(d.ControlPlanes()) > 1:
			warnings.Add("endpoint", "%s is the address of %s itself: without it the cluster cannot be reached, whatever the other control planes do; want a load balancer's",
				host, node.Name)
		}
	}
}
