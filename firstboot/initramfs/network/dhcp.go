package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
)

// Client asks DHCP servers for IPv4 addresses. The lease is not renewed: systemd-networkd, which asks with the same client
// identifier and so gets the same address, takes over long before it ends.
type Client struct {
	// HTTPBoot asks as the firmware's HTTP boot does, so that a server names the same boot file.
	HTTPBoot bool
}

// Answers are waited for a little longer with each attempt.
const (
	firstTimeout   = time.Second
	longestTimeout = 8 * time.Second
)

// Lease implements Leaser.
func (c Client) Lease(ctx context.Context, link string) (Lease, error) {
	device, err := net.InterfaceByName(link)
	if err != nil {
		return Lease{}, err
	}
	for timeout := firstTimeout; ; timeout = min(2*timeout, longestTimeout) {
		lease, err := c.once(ctx, device, timeout)
		if err == nil || ctx.Err() != nil {
			return lease, err
		}
		if err := pause(ctx, poll); err != nil {
			return Lease{}, err
		}
	}
}

// once makes one attempt, with a socket of its own: one that saw its link go down would hear nothing more.
func (c Client) once(ctx context.Context, device *net.Interface, timeout time.Duration) (Lease, error) {
	client, err := nclient4.New(device.Name, nclient4.WithTimeout(timeout), nclient4.WithRetry(1))
	if err != nil {
		return Lease{}, err
	}
	defer client.Close()
	lease, err := client.Request(ctx, c.modifiers(device.HardwareAddr)...)
	if err != nil {
		return Lease{}, err
	}
	return ReadLease(lease.ACK)
}

// modifiers make a request ours. The client identifier is the hardware address, as in the node's systemd-networkd.
func (c Client) modifiers(mac net.HardwareAddr) []dhcpv4.Modifier {
	class := "kiln"
	list := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{byte(iana.HWTypeEthernet)}, mac...))),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU,
			dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionBootfileName, dhcpv4.OptionClassIdentifier),
	}
	if c.HTTPBoot {
		// UEFI specification, "HTTP Boot": the class and the architecture of x86-64 over HTTP.
		class = "HTTPClient:Arch:00016:UNDI:003001"
		list = append(list, dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64_HTTP)))
	}
	return append(list, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)))
}

// ReadLease takes from a server's answer what is used of it.
func ReadLease(ack *dhcpv4.DHCPv4) (Lease, error) {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, size := ack.SubnetMask().Size()
	if !ok || address.IsUnspecified() || size != 32 {
		return Lease{}, errors.New("the DHCP server's answer has no address with a netmask")
	}
	lease := Lease{Address: netip.PrefixFrom(address, ones), BootFile: bootFile(ack), Server: toAddr(ack.ServerIdentifier())}
	for _, server := range ack.DNS() {
		lease.DNS = append(lease.DNS, toAddr(server))
	}
	if mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) == 2 {
		// What is too small for IPv4's own minimum is a mistake that would cut the node off.
		if n := int(mtu[0])<<8 | int(mtu[1]); n >= 576 {
			lease.MTU = n
		}
	}
	lease.Routes = leaseRoutes(ack, lease.Address)
	return lease, nil
}

// leaseRoutes are the classless routes, and only if there are none the routers' (RFC 3442).
func leaseRoutes(ack *dhcpv4.DHCPv4, own netip.Prefix) []Route {
	var routes []Route
	add := func(network netip.Prefix, gateway netip.Addr) {
		if gateway.IsUnspecified() {
			gateway = netip.Addr{}
		}
		if gateway.IsValid() && !own.Contains(gateway) {
			routes = append(routes, Route{Network: netip.PrefixFrom(gateway, 32)})
		}
		routes = append(routes, Route{Network: network, Gateway: gateway})
	}
	for _, r := range ack.ClasslessStaticRoute() {
		ones, _ := r.Dest.Mask.Size()
		add(netip.PrefixFrom(toAddr(r.Dest.IP), ones), toAddr(r.Router))
	}
	if routers := ack.Router(); len(routes) == 0 && len(routers) > 0 {
		add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), toAddr(routers[0]))
	}
	return routes
}

// bootFile reads both places that servers use.
func bootFile(ack *dhcpv4.DHCPv4) string {
	if name := strings.TrimRight(ack.BootFileNameOption(), "\x00"); name != "" {
		return name
	}
	return ack.BootFileName
}

func toAddr(ip net.IP) netip.Addr {
	address, _ := netip.AddrFromSlice(ip)
	return address.Unmap()
}

// BootFile is the URL of the boot file that a DHCP server named.
func (r Result) BootFile() (string, error) {
	var seen []string
	for link, lease := range r.Leases {
		if strings.HasPrefix(lease.BootFile, "http://") || strings.HasPrefix(lease.BootFile, "https://") {
			return lease.BootFile, nil
		}
		seen = append(seen, fmt.Sprintf("%s: %q from %s", link, lease.BootFile, lease.Server))
	}
	if len(seen) == 0 {
		return "", errors.New("no DHCP server was asked: the network is a static one")
	}
	return "", fmt.Errorf("no DHCP server names an http or https URL as its boot file (option 67, or the file in the header); seen: %s", strings.Join(seen, ", "))
}
