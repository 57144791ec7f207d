package cluster

import (
	"net"
	"net/netip"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

const wantAddress = "the node's own IP address, as in 10.0.0.11"

// checkAddress tells whether text is an address that other nodes can reach.
func checkAddress(p *document.Problems, field, text string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(text)
	switch {
	case text == "":
		p.Add(field, "missing; want %s", wantAddress)
	case err != nil:
		p.Add(field, "%q is not an IP address; want %s", text, wantAddress)
	case address.Is4In6():
		p.Add(field, "%s is an IPv4 address in the clothes of IPv6; write %s", text, address.Unmap())
	case address.Zone() != "" || address.IsUnspecified() || address.IsLoopback() || address.IsMulticast() || address.IsLinkLocalUnicast():
		p.Add(field, "%s cannot be reached by other nodes; want %s", text, wantAddress)
	default:
		return address, true
	}
	return netip.Addr{}, false
}

// networks are the address ranges of a cluster: one of each kind, or two (dual-stack). A kind that is wrong is nil.
type networks struct {
	// part is the path of the fields.
	part           string
	pods, services []netip.Prefix
}

// checkNetworks checks each subnet by itself, and that no two are in each other's way.
func checkNetworks(p *document.Problems, part string, c Cluster) networks {
	n := networks{part: part}
	podField, serviceField := under(part, "podSubnet"), under(part, "serviceSubnet")
	n.pods = checkSubnets(p, podField, c.PodSubnet)
	n.services = checkSubnets(p, serviceField, c.ServiceSubnet)
	for _, pods := range n.pods {
		checkPodBits(p, podField, pods)
	}
	for _, services := range n.services {
		checkServiceBits(p, serviceField, services)
	}
	for _, pods := range n.pods {
		for _, services := range n.services {
			if pods.Overlaps(services) {
				p.Add(serviceField, "%s overlaps %s %s; choose ranges that have no address in common", services, podField, pods)
			}
		}
	}
	switch {
	case n.pods == nil || n.services == nil:
	case len(n.pods) != len(n.services):
		p.Add(serviceField, "%s and %s %s are not as many; give one of each, or for dual-stack two of each", c.ServiceSubnet, podField, c.PodSubnet)
	case n.pods[0].Addr().Is4() != n.services[0].Addr().Is4():
		p.Add(serviceField, "%s and %s %s are of different address families; choose one, and for dual-stack the same order", n.services[0], podField, n.pods[0])
	}
	return n
}

// checkSubnets reads one CIDR, or two of different families with a comma between.
func checkSubnets(p *document.Problems, field, text string) []netip.Prefix {
	var subnets []netip.Prefix
	for _, part := range strings.Split(text, ",") {
		subnet, ok := checkSubnet(p, field, part)
		if !ok {
			return nil
		}
		subnets = append(subnets, subnet)
	}
	if len(subnets) > 2 || len(subnets) == 2 && subnets[0].Addr().Is4() == subnets[1].Addr().Is4() {
		p.Add(field, "%s is not one of each address family; want one CIDR, or for dual-stack an IPv4 and an IPv6 one, as in 10.244.0.0/16,fd00:10:244::/56", text)
		return nil
	}
	return subnets
}

func checkSubnet(p *document.Problems, field, text string) (netip.Prefix, bool) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		p.Add(field, "%q is not a subnet; want one CIDR, as in 10.244.0.0/16", text)
		return netip.Prefix{}, false
	case subnet != subnet.Masked():
		p.Add(field, "%s has host bits set; want %s", text, subnet.Masked())
		return netip.Prefix{}, false
	}
	return subnet, true
}

// checkOutside finds an address of a machine among those of pods or services.
func (n networks) checkOutside(p *document.Problems, field string, address netip.Addr) {
	n.each(func(name string, subnet netip.Prefix) {
		if subnet.Contains(address.Unmap()) {
			p.Add(field, "%s lies in %s %s; choose a range that no machine has an address in", address, name, subnet)
		}
	})
}

func (n networks) each(do func(name string, subnet netip.Prefix)) {
	for _, subnet := range n.pods {
		do(under(n.part, "podSubnet"), subnet)
	}
	for _, subnet := range n.services {
		do(under(n.part, "serviceSubnet"), subnet)
	}
}

// checkEndpoint looks at an endpoint that is an address; a name may lead anywhere.
func (n networks) checkEndpoint(p *document.Problems, endpoint string) {
	host, _, _ := net.SplitHostPort(endpoint)
	if address, err := netip.ParseAddr(host); err == nil {
		n.checkOutside(p, under(n.part, "endpoint"), address)
	}
}

// checkNode checks the addresses of one node; the second is optional. The API server advertises the first, which has to be
// of the family of the first service subnet.
func (n networks) checkNode(p *document.Problems, part, first, second string) {
	address, ok := checkAddress(p, part+".address", first)
	if ok {
		n.checkOutside(p, part+".address", address)
		n.checkFamily(p, part+".address", address)
	}
	if second == "" {
		return
	}
	other, otherOK := checkAddress(p, part+".secondaryAddress", second)
	if !otherOK {
		return
	}
	n.checkOutside(p, part+".secondaryAddress", other)
	switch {
	case ok && other.Is4() == address.Is4():
		p.Add(part+".secondaryAddress", "%s is of the same address family as %s; want one of the other", other, address)
	case len(n.services) == 1:
		p.Add(part+".secondaryAddress", "is set, but the cluster is not dual-stack; leave it out, or give %s and %s two ranges each",
			under(n.part, "podSubnet"), under(n.part, "serviceSubnet"))
	}
}

func (n networks) checkFamily(p *document.Problems, field string, address netip.Addr) {
	if len(n.services) > 0 && address.Is4() != n.services[0].Addr().Is4() {
		p.Add(field, "%s and %s %s are of different address families; choose one", address, under(n.part, "serviceSubnet"), n.services[0])
	}
}

// checkPool checks the range that a pool's members have their addresses in.
func (n networks) checkPool(p *document.Problems, field, text string) {
	subnet, ok := checkSubnet(p, field, text)
	if !ok {
		return
	}
	n.each(func(name string, other netip.Prefix) {
		if subnet.Overlaps(other) {
			p.Add(field, "%s overlaps %s %s; choose ranges that have no address in common", subnet, name, other)
		}
	})
	n.checkFamily(p, field, subnet.Addr())
}

// checkPodBits follows the controller manager: a node gets a /24 (IPv6: /64) of the subnet, and the subnet may be at
// most 16 bits larger than that.
func checkPodBits(p *document.Problems, field string, pods netip.Prefix) {
	node := 24
	if pods.Addr().Is6() {
		node = 64
	}
	if pods.Bits() > node || pods.Bits() < node-16 {
		p.Add(field, "%s cannot be divided among nodes, of which each takes a /%d; want a prefix from /%d to /%d", pods, node, node-16, node)
	}
}

// checkServiceBits follows kubeadm: at least 10 addresses (the tenth is the cluster's DNS), at most 20 bits of them.
func checkServiceBits(p *document.Problems, field string, services netip.Prefix) {
	width := services.Addr().BitLen()
	if bits := width - services.Bits(); bits < 4 || bits > 20 {
		p.Add(field, "%s is too small or too large; want a prefix from /%d to /%d", services, width-20, width-4)
	}
}
