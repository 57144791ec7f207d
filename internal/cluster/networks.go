package cluster

import (
	"net"
	"net/netip"

	"github.com/kiln-os/kiln/internal/document"
)

func checkAddress(p *document.Problems, text string) {
	const want = "the node's own IP address, as in 10.0.0.11"
	if text == "" {
		p.Add("node.address", "missing; want %s", want)
		return
	}
	address, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		p.Add("node.address", "%q is not an IP address; want %s", text, want)
	case address.Zone() != "" || address.IsUnspecified() || address.IsLoopback() || address.IsMulticast() || address.IsLinkLocalUnicast():
		p.Add("node.address", "%s cannot be reached by other nodes; want %s", text, want)
	}
}

// checkNetworks checks each subnet by itself and then that no two of subnets, node and endpoint are in each other's way.
func checkNetworks(p *document.Problems, id Identity) {
	pods, podsOK := checkSubnet(p, "cluster.podSubnet", id.Cluster.PodSubnet)
	services, servicesOK := checkSubnet(p, "cluster.serviceSubnet", id.Cluster.ServiceSubnet)
	if podsOK {
		checkPodBits(p, pods)
	}
	if servicesOK {
		checkServiceBits(p, services)
	}
	if podsOK && servicesOK {
		switch {
		case pods.Overlaps(services):
			p.Add("cluster.serviceSubnet", "%s overlaps cluster.podSubnet %s; choose ranges that have no address in common", services, pods)
		case pods.Addr().Is4() != services.Addr().Is4():
			p.Add("cluster.serviceSubnet", "%s and cluster.podSubnet %s are of different address families; choose one", services, pods)
		}
	}
	host, _, _ := net.SplitHostPort(id.Cluster.Endpoint)
	for field, text := range map[string]string{"node.address": id.Node.Address, "cluster.endpoint": host} {
		address, err := netip.ParseAddr(text)
		if err != nil {
			continue // another check says so, or the endpoint is a name
		}
		for name, subnet := range map[string]netip.Prefix{"cluster.podSubnet": pods, "cluster.serviceSubnet": services} {
			if subnet.IsValid() && subnet.Contains(address.Unmap()) {
				p.Add(field, "%s lies in %s %s; choose a range that no machine has an address in", text, name, subnet)
			}
		}
	}
	if address, err := netip.ParseAddr(id.Node.Address); err == nil && servicesOK && address.Is4() != services.Addr().Is4() {
		p.Add("node.address", "%s and cluster.serviceSubnet %s are of different address families; choose one", address, services)
	}
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

// checkPodBits follows the controller manager: a node gets a /24 (IPv6: /64) of the subnet, and the subnet may be at
// most 16 bits larger than that.
func checkPodBits(p *document.Problems, pods netip.Prefix) {
	node := 24
	if pods.Addr().Is6() {
		node = 64
	}
	if pods.Bits() > node || pods.Bits() < node-16 {
		p.Add("cluster.podSubnet", "%s cannot be divided among nodes, of which each takes a /%d; want a prefix from /%d to /%d", pods, node, node-16, node)
	}
}

// checkServiceBits follows kubeadm: at least 10 addresses (the tenth is the cluster's DNS), at most 20 bits of them.
func checkServiceBits(p *document.Problems, services netip.Prefix) {
	width := services.Addr().BitLen()
	if bits := width - services.Bits(); bits < 4 || bits > 20 {
		p.Add("cluster.serviceSubnet", "%s is too small or too large; want a prefix from /%d to /%d", services, width-20, width-4)
	}
}
