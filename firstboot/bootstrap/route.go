package bootstrap

import (
	"context"
	"fmt"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

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

[Route]
Destination=%s
PreferredSource=%s
Scope=link
Metric=4096
`
)

// serviceRoute gives the services' addresses a route of their own, for this boot and later ones.
func (p plan) serviceRoute(ctx context.Context) (string, error) {
	subnet := p.o.Identity.Cluster.ServiceSubnet
	if err := put(p.m.Root.Path(nodefs.NetworkConfig+"/70-kiln-services.netdev"), []byte(serviceDevice), 0o644); err != nil {
		return "", err
	}
	network := fmt.Appendf(nil, serviceNetwork, subnet, p.o.Identity.Node.Address)
	if err := put(p.m.Root.Path(nodefs.NetworkConfig+"/70-kiln-services.network"), network, 0o644); err != nil {
		return "", err
	}
	_, err := p.m.Runner.Run(ctx, command.Command{Name: nodefs.Networkctl, Args: []string{"reload"}})
	return subnet, err
}
