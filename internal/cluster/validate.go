package cluster

import (
	"net/netip"
	"regexp"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// checkIdentity adds every problem of id to p. No text ever holds a secret or a piece of one.
func checkIdentity(p *document.Problems, id Identity) {
	if id.Release == "" {
		p.Add("release", "missing; want the name of the release that the node's image carries, as in v1.36")
	}
	networks := checkCluster(p, "cluster", id.Cluster)
	checkControlPlanes(p, id)
	checkNode(p, id.Node, networks)
	checkInstall(p, "install", id.Install)
	checkBootstrap(p, id)
}

func checkNode(p *document.Problems, n Node, networks networks) {
	checkRole(p, "node", n.Role, n.Initialise)
	if n.Pool == "" {
		checkRequired(p, "node.name", n.Name, isDNSLabel, wantName)
		networks.checkNode(p, "node", n.Address, n.SecondaryAddress)
		if n.Subnet != "" {
			p.Add("node.subnet", "is for the members of a pool; leave it out: the node has node.address")
		}
	} else {
		checkMember(p, n, networks)
	}
	checkMatch(p, "node.match", n.Match)
	checkCommon(p, "node", n.common())
	if n.Registration != "" && !registrationForm.MatchString(n.Registration) {
		p.Add("node.registration", "is not a signed statement; take it from the identity that kiln cluster render made")
	}
}

// registrationForm is that of Statement.Sign.
var registrationForm = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// checkMember checks what an identity that several machines share says of each.
func checkMember(p *document.Problems, n Node, networks networks) {
	checkRequired(p, "node.pool", n.Pool, isDNSLabel, wantName)
	if n.Role == profile.ControlPlane {
		p.Add("node.pool", "is set on a control plane, which has an identity of its own; leave it out, or set node.role to %s", profile.Worker)
	}
	if n.Name != "" {
		checkPattern(p, "node.name", n.Name)
	}
	// A node that has found out its address knows it by both.
	if n.Address != "" {
		networks.checkNode(p, "node", n.Address, n.SecondaryAddress)
	}
	if n.Subnet != "" {
		networks.checkPool(p, "node.subnet", n.Subnet)
	}
}

func checkRole(p *document.Problems, part, role string, initialise bool) {
	switch role {
	case profile.ControlPlane:
	case profile.Worker:
		if initialise {
			p.Add(part+".initialise", "only a control-plane node can initialise a cluster; drop the field or set %s.role to %s", part, profile.ControlPlane)
		}
	case "":
		p.Add(part+".role", "missing; want %s or %s", profile.ControlPlane, profile.Worker)
	default:
		p.Add(part+".role", "unknown %q; want %s or %s", role, profile.ControlPlane, profile.Worker)
	}
}

// checkCluster checks what all nodes have in common; part is where the document has it.
func checkCluster(p *document.Problems, part string, c Cluster) networks {
	checkRequired(p, under(part, "name"), c.Name, isDNSLabel, "a DNS label, as in production")
	checkEndpoint(p, under(part, "endpoint"), c.Endpoint)
	for i, name := range c.CertificateNames {
		field := indexed(under(part, "certificateNames"), i)
		checkRequired(p, field, name, isCertificateName, "a host name, a wildcard as in *.example.org, or an IP address")
	}
	checkRequired(p, under(part, "dnsDomain"), c.DNSDomain, isDNSName, "a domain name, as in cluster.local")
	checkCustomisation(p, under(part, "customisation"), c.Customisation)
	networks := checkNetworks(p, part, c)
	networks.checkEndpoint(p, c.Endpoint)
	return networks
}

func checkControlPlanes(p *document.Problems, id Identity) {
	planned := id.Cluster.ControlPlanes
	if len(planned) > 0 && !id.Node.Initialise {
		p.Add("cluster.controlPlanes", "is for the node that initialises; leave it out")
	}
	taken := claims{}
	for i, plane := range planned {
		field := indexed("cluster.controlPlanes", i)
		checkRequired(p, field+".name", plane.Name, isDNSLabel, wantName)
		taken.claim(p, "name", field+".name", plane.Name)
		if _, ok := checkAddress(p, field+".address", plane.Address); ok {
			taken.claim(p, "address", field+".address", plane.Address)
		}
	}
}

// checkRequired adds a problem unless value is there and ok says yes; want describes what is allowed.
func checkRequired(p *document.Problems, field, value string, ok func(string) bool, want string) {
	switch {
	case value == "":
		p.Add(field, "missing; want %s", want)
	case !ok(value):
		p.Add(field, "%q is not allowed; want %s", value, want)
	}
}

// sameAddress compares two addresses, however they are written.
func sameAddress(a, b string) bool {
	first, err := netip.ParseAddr(a)
	second, otherErr := netip.ParseAddr(b)
	return err == nil && otherErr == nil && first.Unmap() == second.Unmap()
}
