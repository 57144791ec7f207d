package network

import (
	"net/netip"

	"github.com/kiln-os/kiln/internal/cluster"
)

// FromIdentity is the network that an identity asks for; nil asks for nothing. The identity was checked when it was parsed.
func FromIdentity(n *cluster.MachineNetwork) Config {
	var config Config
	if n == nil {
		return config
	}
	for _, text := range n.DNS {
		config.DNS = append(config.DNS, netip.MustParseAddr(text))
	}
	for _, l := range n.Links {
		link := Link{Name: l.Name, DHCP: l.DHCP, MTU: l.MTU}
		for _, text := range l.Addresses {
			link.Addresses = append(link.Addresses, netip.MustParsePrefix(text))
		}
		for _, text := range l.Gateways {
			link.Gateways = append(link.Gateways, netip.MustParseAddr(text))
		}
		if b := l.Bond; b != nil {
			link.Bond = &Bond{Links: b.Links, Mode: b.Mode, Monitor: 100, LACPFast: b.LACPFast, HashPolicy: b.HashPolicy}
			if b.Mode == "" {
				link.Bond.Mode = "active-backup"
			}
		}
		if v := l.VLAN; v != nil {
			link.VLAN = &VLAN{ID: v.ID, Parent: v.Link}
		}
		config.Links = append(config.Links, link)
	}
	return config
}
