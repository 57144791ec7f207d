package bootstrap

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/firstboot/initramfs/network"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// resolver gives systemd-resolved a name server where the network has none: CoreDNS does not start on an empty list. On the
// node's own address nobody listens, so that a name outside the cluster is refused at once, and no query leaves the node.
const resolver = `# Written by firstboot.
[Resolve]
FallbackDNS=%s
`

// The interface that carries the route to the services' addresses, in systemd-networkd's words. A dummy is always up.
const (
	serviceDevice = `# Written by firstboot.
[NetDev]
Name=kiln-services
Kind=dummy
`
	serviceNetwork = `# Written by firstboot. The kernel looks for a route before kube-proxy's rules see a packet: on a machine without a
# default route, services could not be reached. The high metric leaves other routes their say.
[Match]
Name=kiln-services

[Link]
RequiredForOnline=no

[Network]
LinkLocalAddressing=no
ConfigureWithoutCarrier=yes
`
	serviceRoute = `
[Route]
Destination=%s
PreferredSource=%s
Scope=link
Metric=4096
`
)

// networkConfig makes up for what a network may lack, for this boot and later ones: a default route, a name server.
func (p plan) networkConfig(ctx context.Context) (string, error) {
	subnets, address := p.o.Identity.Cluster.ServiceSubnet, p.o.Identity.Node.Address
	if err := put(p.m.Root.Path(nodefs.ResolverConfig+"/70-kiln.conf"), fmt.Appendf(nil, resolver, address), 0o644); err != nil {
		return "", err
	}
	if err := put(p.m.Root.Path(nodefs.NetworkConfig+"/70-kiln-services.netdev"), []byte(serviceDevice), 0o644); err != nil {
		return "", err
	}
	network := serviceNetwork
	for subnet := range strings.SplitSeq(subnets, ",") {
		if source := p.addressLike(subnet); source != "" {
			network += fmt.Sprintf(serviceRoute, subnet, source)
		}
	}
	if err := put(p.m.Root.Path(nodefs.NetworkConfig+"/70-kiln-services.network"), []byte(network), 0o644); err != nil {
		return "", err
	}
	for _, c := range []command.Command{
		{Name: nodefs.Networkctl, Args: []string{"reload"}},
		{Name: nodefs.Systemctl, Args: []string{"reload-or-restart", "systemd-resolved.service"}},
	} {
		if _, err := p.m.Runner.Run(ctx, c); err != nil {
			return "", err
		}
	}
	return "route to " + subnets, nil
}

// machineNetwork gives systemd-networkd the links of the identity. In a live boot the initramfs has done so, if it saw the identity.
func (p plan) machineNetwork(ctx context.Context) error {
	config := network.FromIdentity(p.o.Identity.Node.Network)
	if len(config.Links) == 0 {
		return nil
	}
	for name, text := range config.Networkd() {
		if err := put(p.m.Root.Path(filepath.Join(nodefs.NetworkConfig, name)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err := p.m.Runner.Run(ctx, command.Command{Name: nodefs.Networkctl, Args: []string{"reload"}})
	return err
}

// addressLike is the node's address of the subnet's family; empty when it has none.
func (p plan) addressLike(subnet string) string {
	for _, address := range []string{p.o.Identity.Node.Address, p.o.Identity.Node.SecondaryAddress} {
		if address != "" && strings.Contains(address, ":") == strings.Contains(subnet, ":") {
			return address
		}
	}
	return ""
}
