package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// Parameters are the values of the network's parameters on the kernel command line, each in the order it was given.
type Parameters struct {
	IP, VLAN, Bond, Nameserver []string
}

// Parse reads the parameters as dracut writes them (dracut.cmdline(7), "Network"). The error joins all problems.
func (p Parameters) Parse() (Config, error) {
	var config Config
	var errs []error
	note := func(parameter, value string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("kernel command line: %s=%s: %w", parameter, value, err))
		}
	}
	for _, value := range p.Bond {
		link, err := parseBond(value)
		note(nodefs.ParamBond, value, err)
		config.Links = append(config.Links, link)
	}
	for _, value := range p.VLAN {
		link, err := parseVLAN(value)
		note(nodefs.ParamVLAN, value, err)
		config.Links = append(config.Links, link)
	}
	for _, value := range p.IP {
		link, dns, err := parseIP(value)
		note(nodefs.ParamIP, value, err)
		config.DNS = append(config.DNS, dns...)
		config.Links = merge(config.Links, link)
	}
	for _, value := range p.Nameserver {
		address, err := parseAddress(value)
		note(nodefs.ParamNameserver, value, err)
		config.DNS = append(config.DNS, address)
	}
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
	}
	return config.named()
}

// named finishes a config: an ip= without a link means the one bond or VLAN there is, or else the one physical link.
func (c Config) named() (Config, error) {
	at := slices.IndexFunc(c.Links, func(l Link) bool { return l.Name == "" })
	if at < 0 || len(c.Links) == 1 {
		return c, nil
	}
	if nameless := c.Links[at]; len(nameless.Addresses) > 0 {
		return c, fmt.Errorf("kernel command line: ip: %s has no interface, and there are others; name one", nameless.Addresses[0])
	}
	// DHCP on every link, and on what is made of links, would ask twice by the same cable.
	return c, errors.New("kernel command line: ip: asks for every interface, and others are named; name one in each")
}

// merge adds what ip= says to a bond or VLAN of that name, or to the same link's other family.
func merge(links []Link, link Link) []Link {
	for i := range links {
		if link.Name != "" && links[i].Name == link.Name {
			links[i].DHCP = links[i].DHCP || link.DHCP
			links[i].Addresses = append(links[i].Addresses, link.Addresses...)
			links[i].Gateways = append(links[i].Gateways, link.Gateways...)
			links[i].MTU = max(links[i].MTU, link.MTU)
			return links
		}
	}
	return append(links, link)
}

const ipForms = "want dhcp, IFACE:dhcp or ADDRESS::GATEWAY:NETMASK:HOSTNAME:IFACE:none[:DNS[:DNS]]"

// parseIP reads one ip=. The three forms differ in how many fields there are.
func parseIP(value string) (Link, []netip.Addr, error) {
	fields, err := splitFields(value)
	if err != nil {
		return Link{}, nil, err
	}
	switch {
	case len(fields) == 1:
		dhcp, err := parseMethod(fields[0])
		if err == nil && !dhcp {
			err = errors.New("leaves the machine without a network; " + ipForms)
		}
		return Link{DHCP: dhcp}, nil, err
	case len(fields) <= 4 && !isAddress(fields[0]):
		link := Link{Name: fields[0]}
		if link.DHCP, err = parseMethod(fields[1]); err == nil && len(fields) > 2 {
			link.MTU, err = parseMTU(fields[2])
		}
		return link, nil, err
	}
	return parseStatic(fields)
}

// parseStatic reads ADDRESS:PEER:GATEWAY:NETMASK:HOSTNAME:IFACE:METHOD and then either DNS servers, or MTU and hardware address.
func parseStatic(fields []string) (Link, []netip.Addr, error) {
	if len(fields) < 6 {
		return Link{}, nil, errors.New(ipForms)
	}
	field := func(n int) string {
		if n < len(fields) {
			return fields[n]
		}
		return ""
	}
	link := Link{Name: field(5)}
	var errs []error
	if method := field(6); method != "" {
		dhcp, err := parseMethod(method)
		link.DHCP = dhcp
		errs = append(errs, err)
	}
	if field(0) != "" {
		prefix, err := parsePrefix(field(0), field(3))
		errs = append(errs, err)
		link.Addresses = []netip.Prefix{prefix}
	}
	if field(2) != "" {
		gateway, err := parseAddress(field(2))
		errs = append(errs, err)
		link.Gateways = []netip.Addr{gateway}
	}
	var dns []netip.Addr
	for _, text := range []string{field(7), field(8)} {
		switch {
		case text == "":
		case isAddress(text):
			dns = append(dns, netip.MustParseAddr(text))
		case text == field(7):
			mtu, err := parseMTU(text)
			link.MTU = mtu
			errs = append(errs, err)
			// A hardware address may follow; it is taken apart at its colons, and dracut would change the link's, which is not done.
			return link, dns, errors.Join(errs...)
		}
	}
	return link, dns, errors.Join(errs...)
}

// splitFields splits at colons outside brackets, in which IPv6 addresses stand.
func splitFields(value string) ([]string, error) {
	var fields []string
	var field strings.Builder
	inside := false
	for _, r := range value {
		switch {
		case r == '[' && !inside:
			inside = true
		case r == ']' && inside:
			inside = false
		case r == ':' && !inside:
			fields = append(fields, field.String())
			field.Reset()
		default:
			field.WriteRune(r)
		}
	}
	if inside {
		return nil, errors.New("a [ without its ]")
	}
	return append(fields, field.String()), nil
}

func parseMethod(method string) (dhcp bool, err error) {
	switch method {
	case "dhcp", "on", "any", "single-dhcp":
		return true, nil
	case "none", "off", "static":
		return false, nil
	}
	return false, fmt.Errorf("%q is not known here; want dhcp, or none with an address", method)
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func parseAddress(text string) (netip.Addr, error) {
	address, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return address, fmt.Errorf("%q is no IP address", text)
	}
	return address, nil
}

// parsePrefix joins an address with a netmask, which is one of IPv4's (255.255.255.0) or the number of bits.
func parsePrefix(address, mask string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(address); err == nil && mask == "" {
		return prefix, nil
	}
	a, err := parseAddress(address)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits, err := strconv.Atoi(mask)
	if ip := net.ParseIP(mask).To4(); ip != nil {
		ones, size := net.IPMask(ip).Size()
		if size == 0 {
			return netip.Prefix{}, fmt.Errorf("%q is no netmask; want one such as 255.255.255.0 or 24", mask)
		}
		bits, err = ones, nil
	}
	if err != nil || bits < 1 || bits > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%q is no netmask; want one such as 255.255.255.0 or 24", mask)
	}
	return netip.PrefixFrom(a, bits), nil
}

func parseMTU(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	mtu, err := strconv.Atoi(text)
	if err != nil || mtu < 576 || mtu > 65535 {
		return 0, fmt.Errorf("%q is no MTU; want 576 to 65535", text)
	}
	return mtu, nil
}
