// Package network gives a machine a network before it has a root: what the kernel command line or an identity says of links,
// bonds, VLANs and addresses, done by netlink, or DHCP on every link with a carrier. The same settings can be left for
// systemd-networkd, so that the node keeps the network that it was booted over.
package network

import (
	"fmt"
	"net/netip"
	"strings"
)

// Config says how the machine reaches its network. Without links it is DHCP on every physical link that has a carrier.
type Config struct {
	Links []Link
	// DNS are name servers besides those that DHCP names.
	DNS []netip.Addr
}

// Link is one interface: one of the machine's, or a bond or a VLAN that is made.
type Link struct {
	// Name is the kernel's name (eth0), or the one that systemd will give it (enp1s0, ens3, eno1), or its hardware address.
	// Of a bond or a VLAN it is the name that it gets. Empty means every physical link.
	Name string
	// DHCP asks for an address (IPv4).
	DHCP bool
	// Addresses are static ones, Gateways the default routes: one for each family at most.
	Addresses []netip.Prefix
	Gateways  []netip.Addr
	// MTU is in bytes; 0 leaves it.
	MTU int
	// Bond and VLAN are set on what has to be made.
	Bond *Bond
	VLAN *VLAN
}

// Bond joins links.
type Bond struct {
	// Links are the names of the links in it.
	Links []string
	// Mode is the kernel's name (active-backup, 802.3ad); Monitor is miimon, in milliseconds.
	Mode    string
	Monitor int
	// LACPFast asks the switch for packets every second.
	LACPFast bool
	// HashPolicy is xmit_hash_policy; empty leaves the kernel's.
	HashPolicy string
}

// VLAN is a tagged network on a link.
type VLAN struct {
	ID     int
	Parent string
}

// Interface is what the kernel says of one interface.
type Interface struct {
	Name string
	// MAC is the hardware address as it was made, in lower case.
	MAC string
	// Names are further names by which people may mean it.
	Names []string
	// Physical interfaces are the machine's: no bond, bridge or loopback.
	Physical bool
	// Carrier tells that the cable leads somewhere; it is known only while the interface is up.
	Carrier bool
}

// is tells whether name means this interface.
func (i Interface) is(name string) bool {
	if strings.EqualFold(name, i.MAC) || name == i.Name {
		return true
	}
	for _, other := range i.Names {
		if name == other {
			return true
		}
	}
	return false
}

// Lease is what a DHCP server gave.
type Lease struct {
	Address netip.Prefix
	Routes  []Route
	DNS     []netip.Addr
	// BootFile is option 67, or else the file in the BOOTP header.
	BootFile string
	// Server is who answered.
	Server netip.Addr
	MTU    int
}

// Route is one route; a Gateway that is not valid means that the network is on the link itself.
type Route struct {
	Network netip.Prefix
	Gateway netip.Addr
	// Metric: of two routes to one network, the smaller counts.
	Metric int
}

// Operation is one change that the kernel is asked for.
type Operation struct {
	// Verb is what is done to the link: up, mtu, address, route, bond, vlan or join (a bond).
	Verb string
	Link string
	// Address is of the verb address, Route of route, MTU of mtu, Bond of bond, VLAN of vlan, Master of join.
	Address netip.Prefix
	Route   Route
	MTU     int
	Bond    *Bond
	VLAN    *VLAN
	Master  string
}

// String is the operation as a person would say it.
func (o Operation) String() string {
	switch o.Verb {
	case "address":
		return fmt.Sprintf("address %s on %s", o.Address, o.Link)
	case "route":
		if o.Route.Gateway.IsValid() {
			return fmt.Sprintf("route to %s by %s on %s%s", o.Route.Network, o.Route.Gateway, o.Link, metric(o.Route))
		}
		return fmt.Sprintf("route to %s on %s%s", o.Route.Network, o.Link, metric(o.Route))
	case "mtu":
		return fmt.Sprintf("mtu %d on %s", o.MTU, o.Link)
	case "bond":
		return fmt.Sprintf("bond %s (%s)", o.Link, o.Bond.Mode)
	case "vlan":
		return fmt.Sprintf("vlan %s (%d on %s)", o.Link, o.VLAN.ID, o.VLAN.Parent)
	case "join":
		return fmt.Sprintf("join %s to %s", o.Link, o.Master)
	}
	return o.Verb + " " + o.Link
}

func metric(r Route) string {
	if r.Metric == 0 {
		return ""
	}
	return fmt.Sprintf(", metric %d", r.Metric)
}
