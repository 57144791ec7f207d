package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
)

// place is the machine that an identity has come to.
type place struct {
	facts Facts
	// addresses are those of interfaces that are up.
	addresses []netip.Addr
	// route gives the address from which this machine reaches endpoint (host:port).
	route func(endpoint string) (netip.Addr, error)
}

// resolve checks that id is meant for this machine and fills in what the member of a pool finds out by itself. The answer
// is to be kept: what a name or an address is made from may be another one at the next boot.
func (m *Machine) resolve(ctx context.Context, id cluster.Identity, facts Facts) (cluster.Identity, error) {
	addresses, err := m.Addresses()
	if err != nil {
		return id, fmt.Errorf("listing addresses: %w", err)
	}
	return resolveNode(id, place{facts: facts, addresses: addresses, route: func(endpoint string) (netip.Addr, error) {
		return sourceAddress(ctx, endpoint)
	}})
}

// resolveNode is id as it is on the machine at p. An error is permanent where the machine cannot become what the identity
// wants; where a name or an address may still come from the network, it is not.
func resolveNode(id cluster.Identity, p place) (cluster.Identity, error) {
	if err := checkMatch(id.Node.Match, p.facts); err != nil {
		return id, err
	}
	if id.Node.Pool == "" {
		return id, nil
	}
	name, err := memberName(id.Node.Name, p.facts)
	if err != nil {
		return id, err
	}
	id.Node.Name = name
	if id.Node.Address == "" {
		address, err := memberAddress(id, p)
		if err != nil {
			return id, err
		}
		id.Node.Address = address.String()
	}
	return id, nil
}

// checkMatch compares the machine with what the identity says that it has to be.
func checkMatch(want *cluster.Match, have Facts) error {
	if want == nil {
		return nil
	}
	const remedy = "give this machine its own identity, or correct node.match"
	p := &document.Problems{File: "identity"}
	differs := func(field, want, have string) {
		if want == "" || strings.EqualFold(want, have) {
			return
		}
		if have == "" {
			have = "none"
		}
		p.Add("node.match."+field, "is %s, but this machine has %s; "+remedy, want, have)
	}
	if want.MAC != "" && !slices.Contains(have.MACs, plainMAC(want.MAC)) {
		differs("mac", want.MAC, strings.Join(have.MACs, ", "))
	}
	differs("uuid", want.UUID, have.UUID)
	differs("serial", want.Serial, have.Serial)
	if short, _, _ := strings.Cut(have.Hostname, "."); have.Hostname != "" && !strings.EqualFold(want.Hostname, short) {
		differs("hostname", want.Hostname, have.Hostname)
	}
	if err := p.Err(); err != nil {
		return err
	}
	if want.Hostname != "" && have.Hostname == "" {
		return fmt.Errorf("the identity is for the machine called %s, and this one has no name yet; waiting for one from its metadata or network", want.Hostname)
	}
	return nil
}

// plainMAC is a hardware address as the kernel writes it.
func plainMAC(text string) string {
	if mac, err := net.ParseMAC(text); err == nil {
		return mac.String()
	}
	return strings.ToLower(text)
}

// variable is one in the pattern of a pool's names.
var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// notInName is what a DNS label cannot have.
var notInName = regexp.MustCompile(`[^a-z0-9-]`)

// memberName fills in the pattern; a name that is one already stays. The MAC is that of the interface whose name sorts
// first, which is the same one on every boot.
func memberName(pattern string, f Facts) (string, error) {
	if pattern == "" {
		pattern = "${hostname}"
	}
	short, _, _ := strings.Cut(f.Hostname, ".")
	mac := ""
	if len(f.MACs) > 0 {
		mac = strings.ReplaceAll(f.MACs[0], ":", "")
	}
	values := map[string]string{"hostname": short, "mac": mac, "uuid": f.UUID, "serial": f.Serial}
	for _, match := range variable.FindAllStringSubmatch(pattern, -1) {
		value, known := values[match[1]]
		switch {
		case !known:
			return "", Permanent{fmt.Errorf("identity: node.name: has ${%s}; want ${hostname}, ${mac}, ${uuid} or ${serial}", match[1])}
		case value == "" && match[1] == "hostname":
			return "", errors.New("the node's name needs ${hostname}, and this machine has no name yet; waiting for one from its metadata or network")
		case value == "":
			return "", Permanent{fmt.Errorf("identity: node.name: is %s, but this machine does not tell its ${%s}; use another variable in the pool's nodeName", pattern, match[1])}
		}
	}
	name := variable.ReplaceAllStringFunc(pattern, func(v string) string { return values[v[2:len(v)-1]] })
	name = strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if name == "" || len(name) > 63 {
		return "", Permanent{fmt.Errorf("identity: node.name: %s becomes %q on this machine, and a name has 1 to 63 characters; change the pool's nodeName", pattern, name)}
	}
	return name, nil
}

// memberAddress finds the node's address among the machine's.
func memberAddress(id cluster.Identity, p place) (netip.Addr, error) {
	if id.Node.Subnet == "" {
		address, err := p.route(id.Cluster.Endpoint)
		if err != nil {
			return address, fmt.Errorf("finding the address from which the endpoint %s is reached: %w; give the pool a subnet if this stays so", id.Cluster.Endpoint, err)
		}
		return address, nil
	}
	subnet, err := netip.ParsePrefix(id.Node.Subnet)
	if err != nil {
		return netip.Addr{}, Permanent{fmt.Errorf("identity: node.subnet: %q is no subnet; want CIDR as in 10.0.2.0/24", id.Node.Subnet)}
	}
	// An address that balances the endpoint's load may lie on this machine, and wander off.
	host, _, _ := net.SplitHostPort(id.Cluster.Endpoint)
	endpoint, _ := netip.ParseAddr(host)
	var within, outside []string
	var last netip.Addr
	for _, address := range p.addresses {
		address = address.Unmap().WithZone("")
		switch {
		case !address.IsGlobalUnicast() || address == endpoint || slices.Contains(within, address.String()):
		case subnet.Contains(address):
			within, last = append(within, address.String()), address
		default:
			outside = append(outside, address.String())
		}
	}
	switch {
	case len(within) == 1:
		return last, nil
	case len(within) > 1:
		return last, fmt.Errorf("this machine has %s in %s, the pool's subnet, and a node has one address; narrow the subnet", enumerate(within), subnet)
	case len(outside) == 0:
		outside = []string{"none"}
	}
	return last, fmt.Errorf("waiting for an address in %s, the pool's subnet; addresses there now: %s", subnet, enumerate(outside))
}

// routeLimit is how long the endpoint's name may take to become an address.
const routeLimit = 10 * time.Second

// sourceAddress is the address that packets to endpoint would come from. A UDP socket is connected without a packet sent.
func sourceAddress(ctx context.Context, endpoint string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, routeLimit)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "udp", endpoint)
	if err != nil {
		return netip.Addr{}, err
	}
	defer connection.Close()
	local, ok := connection.LocalAddr().(*net.UDPAddr)
	if !ok || local.AddrPort().Addr().IsLoopback() {
		return netip.Addr{}, errors.New("it lies on this machine")
	}
	return local.AddrPort().Addr().Unmap().WithZone(""), nil
}
