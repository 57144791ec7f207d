package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Netlink is the machine's own kernel.
type Netlink struct {
	// Sys is where sysfs is.
	Sys string
}

// Interfaces implements Kernel.
func (n Netlink) Interfaces() ([]Interface, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing the network interfaces: %w", err)
	}
	var list []Interface
	for _, link := range links {
		a := link.Attrs()
		i := Interface{Name: a.Name, MAC: strings.ToLower(a.HardwareAddr.String()), Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0 && a.Flags&net.FlagUp != 0}
		if len(a.PermHWAddr) > 0 {
			i.MAC = strings.ToLower(a.PermHWAddr.String())
		}
		// What is a device of the machine has one in sysfs; loopback, bonds and VLANs have none.
		device, err := filepath.EvalSymlinks(filepath.Join(n.Sys, "class/net", a.Name, "device"))
		i.Physical = err == nil && a.EncapType == "ether"
		if i.Physical {
			i.Names = PredictableNames(n.Sys, device)
		}
		list = append(list, i)
	}
	return list, nil
}

var pciPattern = regexp.MustCompile(`^([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$`)

// PredictableNames are the names that systemd may give the interface of a device in sysfs (systemd.net-naming-scheme(7)):
// by its place on the PCI bus, its slot, and its number on board. Without udev nobody gives them, but people know no other.
func PredictableNames(sys, device string) []string {
	match := pciPattern.FindStringSubmatch(filepath.Base(device))
	// virtio's device lies below the one on the bus.
	for ; match == nil && len(device) > 1; match = pciPattern.FindStringSubmatch(filepath.Base(device)) {
		device = filepath.Dir(device)
	}
	if match == nil {
		return nil
	}
	number := func(text string) uint64 { n, _ := strconv.ParseUint(text, 16, 32); return n }
	domain, function := "", ""
	if d := number(match[1]); d != 0 {
		domain = fmt.Sprintf("P%d", d)
	}
	if f := number(match[4]); f != 0 {
		function = fmt.Sprintf("f%d", f)
	}
	var names []string
	add := func(format string, args ...any) {
		name := "en" + domain + fmt.Sprintf(format, args...) + function
		names = append(names, name)
		// The first function of several has its number, too.
		if function == "" {
			names = append(names, name+"f0")
		}
	}
	add("p%ds%d", number(match[2]), number(match[3]))
	slots, _ := filepath.Glob(filepath.Join(sys, "bus/pci/slots/*/address"))
	for _, slot := range slots {
		if address, err := os.ReadFile(slot); err == nil && strings.HasPrefix(filepath.Base(device), strings.TrimSpace(string(address))+".") {
			add("s%s", filepath.Base(filepath.Dir(slot)))
		}
	}
	for _, file := range []string{"acpi_index", "index"} {
		if index, err := os.ReadFile(filepath.Join(device, file)); err == nil {
			names = append(names, "eno"+strings.TrimSpace(string(index)))
		}
	}
	return names
}

// Do implements Kernel.
func (n Netlink) Do(o Operation) error {
	switch o.Verb {
	case "bond":
		return n.add(bond(o.Link, *o.Bond))
	case "vlan":
		parent, err := netlink.LinkByName(o.VLAN.Parent)
		if err != nil {
			return err
		}
		return n.add(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: o.Link, ParentIndex: parent.Attrs().Index}, VlanId: o.VLAN.ID})
	}
	link, err := netlink.LinkByName(o.Link)
	if err != nil {
		return err
	}
	switch o.Verb {
	case "up":
		return netlink.LinkSetUp(link)
	case "mtu":
		return netlink.LinkSetMTU(link, o.MTU)
	case "address":
		return netlink.AddrReplace(link, &netlink.Addr{IPNet: toNet(o.Address)})
	case "route":
		// As systemd-networkd makes them: it finds its own route there already, and does not add another.
		route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: toNet(o.Route.Network), Priority: o.Route.Metric, Protocol: unix.RTPROT_STATIC}
		if o.Route.Gateway.IsValid() {
			route.Gw = o.Route.Gateway.AsSlice()
			route.Flags = int(netlink.FLAG_ONLINK)
		} else {
			route.Scope = netlink.SCOPE_LINK
		}
		return netlink.RouteReplace(&route)
	case "join":
		master, err := netlink.LinkByName(o.Master)
		if err != nil || link.Attrs().MasterIndex == master.Attrs().Index {
			return err
		}
		// A link joins only while it is down.
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetMaster(link, master))
	}
	return fmt.Errorf("%q is no operation", o.Verb)
}

func (n Netlink) add(link netlink.Link) error {
	if err := netlink.LinkAdd(link); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func bond(name string, b Bond) *netlink.Bond {
	link := netlink.NewLinkBond(netlink.LinkAttrs{Name: name})
	link.Mode = netlink.StringToBondMode(b.Mode)
	link.Miimon = b.Monitor
	if b.HashPolicy != "" {
		link.XmitHashPolicy = netlink.StringToBondXmitHashPolicy(b.HashPolicy)
	}
	if b.LACPFast {
		link.LacpRate = netlink.BOND_LACP_RATE_FAST
	}
	return link
}

func toNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
