package cluster

import (
	_ "embed"
	"net/netip"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// MachineNetwork is how a machine reaches its network. Without it, every interface asks a DHCP server.
type MachineNetwork struct {
	// Links are the machine's interfaces that are used, and the bonds and VLANs made of them.
	Links []Link `json:"links"`
	// DNS are the addresses of name servers, besides those that DHCP names.
	DNS []string `json:"dns,omitempty"`
}

// Link is one interface: one of the machine's, or a bond or VLAN that is made.
type Link struct {
	// Name is the interface's name (enp1s0, ens3, eno1) or its hardware address, which is surer. Of a bond or a VLAN it is the name
	// that it gets.
	Name string `json:"name"`
	// DHCP asks a DHCP server for an address.
	DHCP bool `json:"dhcp,omitempty"`
	// Addresses are static addresses with the number of bits of their network, as in 192.0.2.10/24.
	Addresses []string `json:"addresses,omitempty"`
	// Gateways are the default routes, one for each family at most.
	Gateways []string `json:"gateways,omitempty"`
	// MTU is the largest packet in bytes.
	MTU int `json:"mtu,omitempty"`
	// Bond makes one link of several.
	Bond *Bond `json:"bond,omitempty"`
	// VLAN makes a tagged network on a link.
	VLAN *VLAN `json:"vlan,omitempty"`
}

// Bond joins links.
type Bond struct {
	// Links are the names or hardware addresses of the interfaces in it.
	Links []string `json:"links"`
	// Mode is active-backup, 802.3ad or another of the kernel's; default active-backup.
	Mode string `json:"mode,omitempty"`
	// LACPFast asks the switch for LACP packets every second.
	LACPFast bool `json:"lacpFast,omitempty"`
	// HashPolicy says by what packets are spread over the links: layer2, layer2+3 or layer3+4.
	HashPolicy string `json:"hashPolicy,omitempty"`
}

// VLAN is a tagged network.
type VLAN struct {
	// ID is the number in the tag, 1 to 4094.
	ID int `json:"id"`
	// Link is the name of the interface or bond below it.
	Link string `json:"link"`
}

// BondModes are the modes of a bond.
func BondModes() []string {
	return []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
}

// HashPolicies are the ways to spread packets over a bond.
func HashPolicies() []string { return []string{"layer2", "layer2+3", "layer3+4"} }

// checkMachineNetwork adds every problem of n, which is at part.
func checkMachineNetwork(p *document.Problems, part string, n *MachineNetwork) {
	if n == nil {
		return
	}
	if len(n.Links) == 0 {
		p.Add(part+".links", "missing; name the interfaces that are used, or leave out %s: every interface asks a DHCP server then", part)
	}
	seen := map[string]bool{}
	for i, l := range n.Links {
		field := indexed(part+".links", i)
		checkLink(p, field, l)
		if seen[l.Name] {
			p.Add(field+".name", "%q stands for two links; say it all in one", l.Name)
		}
		seen[l.Name] = true
	}
	for i, server := range n.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			p.Add(indexed(part+".dns", i), "%q is no IP address", server)
		}
	}
}

func checkLink(p *document.Problems, part string, l Link) {
	made := l.Bond != nil || l.VLAN != nil
	if !isLinkName(l.Name) && (made || !isMAC(l.Name)) {
		p.Add(part+".name", "%q is no interface's name; want 1 to 15 letters, digits, dots, dashes and underscores, or a hardware address for one of the machine's", l.Name)
	}
	for i, address := range l.Addresses {
		if _, err := netip.ParsePrefix(address); err != nil {
			p.Add(indexed(part+".addresses", i), "%q is no address with its network; want one such as 192.0.2.10/24", address)
		}
	}
	families := map[bool]bool{}
	for i, text := range l.Gateways {
		gateway, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			p.Add(indexed(part+".gateways", i), "%q is no IP address", text)
		case families[gateway.Is4()]:
			p.Add(indexed(part+".gateways", i), "is a second gateway of one family; want one")
		}
		families[gateway.Is4()] = true
	}
	if l.MTU != 0 && (l.MTU < 576 || l.MTU > 65535) {
		p.Add(part+".mtu", "is %d; want 576 to 65535", l.MTU)
	}
	if l.Bond != nil {
		checkBond(p, part+".bond", *l.Bond)
	}
	if l.VLAN != nil {
		if l.Bond != nil {
			p.Add(part+".vlan", "stands beside bond; give the VLAN a link of its own, with the bond's name in vlan.link")
		}
		if l.VLAN.ID < 1 || l.VLAN.ID > 4094 {
			p.Add(part+".vlan.id", "is %d; want 1 to 4094", l.VLAN.ID)
		}
		if l.VLAN.Link == l.Name || (!isLinkName(l.VLAN.Link) && !isMAC(l.VLAN.Link)) {
			p.Add(part+".vlan.link", "%q is not another interface's name", l.VLAN.Link)
		}
	}
}

func checkBond(p *document.Problems, part string, b Bond) {
	if len(b.Links) == 0 {
		p.Add(part+".links", "missing; name the interfaces of the bond")
	}
	for i, name := range b.Links {
		if !isLinkName(name) && !isMAC(name) {
			p.Add(indexed(part+".links", i), "%q is no interface's name and no hardware address", name)
		}
	}
	if b.Mode != "" && !slices.Contains(BondModes(), b.Mode) {
		p.Add(part+".mode", "unknown %q; want one of %s", b.Mode, strings.Join(BondModes(), ", "))
	}
	if b.HashPolicy != "" && !slices.Contains(HashPolicies(), b.HashPolicy) {
		p.Add(part+".hashPolicy", "unknown %q; want one of %s", b.HashPolicy, strings.Join(HashPolicies(), ", "))
	}
}

// isLinkName follows the kernel (dev_valid_name), and leaves out what would need quoting in systemd's files.
func isLinkName(name string) bool {
	if name == "" || len(name) > 15 || name == "." || name == ".." || name == "lo" {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func isMAC(text string) bool { return macForm.MatchString(strings.ToLower(text)) }

// MachineNetworkText is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed machinenetwork.go
var MachineNetworkText string
