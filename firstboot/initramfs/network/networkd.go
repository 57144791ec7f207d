package network

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// String is the network for a line on the console.
func (r Result) String() string {
	var words []string
	for link, lease := range r.Leases {
		words = append(words, fmt.Sprintf("%s %s", link, lease.Address))
	}
	slices.Sort(words)
	for _, link := range r.Config.Links {
		for _, address := range link.Addresses {
			words = append(words, fmt.Sprintf("%s %s", link.Name, address))
		}
	}
	return strings.Join(words, ", ")
}

// Leave writes the config for systemd-networkd into dir, /run/systemd/network: the node has the same network as its initramfs.
func (c Config) Leave(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("leaving the network for systemd: %w", err)
	}
	for name, text := range c.Networkd() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("leaving the network for systemd: %w", err)
		}
	}
	return nil
}

// Networkd renders the config as files of systemd-networkd, by name (systemd.network(5), systemd.netdev(5)). They sort before the
// image's own, which take every interface.
func (c Config) Networkd() map[string]string {
	files := map[string]string{}
	for i, l := range c.Links {
		base := fmt.Sprintf("40-kiln-%d", i)
		if l.Bond != nil {
			files[base+".netdev"] = bondDevice(l)
			for j, member := range l.Bond.Links {
				files[fmt.Sprintf("%s-%d.network", base, j)] = header + match(member) + "\n[Network]\nBond=" + l.Name + "\n"
			}
		}
		if l.VLAN != nil {
			files[base+".netdev"] = fmt.Sprintf("%s[NetDev]\nName=%s\nKind=vlan\n\n[VLAN]\nId=%d\n", header, l.Name, l.VLAN.ID)
		}
		files[base+".network"] = c.network(l)
	}
	c.parents(files)
	return files
}

const header = "# Left by the initramfs: the network that this node was booted over.\n"

// match names a link: by its hardware address, or by its name, or all of the machine's own.
func match(name string) string {
	if _, err := net.ParseMAC(name); err == nil {
		// A bond has the hardware address of a member, but not as its own.
		return "[Match]\nPermanentMACAddress=" + name + "\n"
	}
	if name == "" {
		return "[Match]\nName=en* eth*\nKind=!*\n"
	}
	return "[Match]\nName=" + name + "\n"
}

func (c Config) network(l Link) string {
	var text strings.Builder
	text.WriteString(header + match(l.Name))
	if l.MTU != 0 {
		fmt.Fprintf(&text, "\n[Link]\nMTUBytes=%d\n", l.MTU)
	}
	text.WriteString("\n[Network]\n")
	if l.DHCP {
		text.WriteString("DHCP=yes\n")
	}
	for _, vlan := range c.Links {
		if vlan.VLAN != nil && vlan.VLAN.Parent == l.Name {
			text.WriteString("VLAN=" + vlan.Name + "\n")
		}
	}
	for _, address := range l.Addresses {
		text.WriteString("Address=" + address.String() + "\n")
	}
	for _, server := range c.DNS {
		text.WriteString("DNS=" + server.String() + "\n")
	}
	for _, gateway := range l.Gateways {
		text.WriteString("\n[Route]\nGateway=" + gateway.String() + "\nGatewayOnLink=yes\n")
	}
	if l.DHCP {
		text.WriteString("\n[DHCPv4]\nClientIdentifier=mac\nUseDomains=yes\n")
	}
	return text.String()
}

// parents adds links that only carry VLANs.
func (c Config) parents(files map[string]string) {
	for _, l := range c.Links {
		if l.VLAN == nil || slices.ContainsFunc(c.Links, func(other Link) bool { return other.Name == l.VLAN.Parent }) {
			continue
		}
		// Several VLANs on one link write the same file twice.
		name := "40-kiln-parent-" + strings.ReplaceAll(l.VLAN.Parent, ":", "") + ".network"
		files[name] = strings.Replace(c.network(Link{Name: l.VLAN.Parent}), "[Network]\n", "[Network]\nLinkLocalAddressing=no\n", 1)
	}
}

func bondDevice(l Link) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s[NetDev]\nName=%s\nKind=bond\n\n[Bond]\nMode=%s\nMIIMonitorSec=%dms\n", header, l.Name, l.Bond.Mode, l.Bond.Monitor)
	if l.Bond.HashPolicy != "" {
		text.WriteString("TransmitHashPolicy=" + l.Bond.HashPolicy + "\n")
	}
	if l.Bond.LACPFast {
		text.WriteString("LACPTransmitRate=fast\n")
	}
	return text.String()
}
