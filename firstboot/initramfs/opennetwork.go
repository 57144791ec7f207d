package initramfs

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/firstboot/initramfs/network"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// openNetwork brings the network up as the command line says, or an identity that is found without a network.
func (b *boot) openNetwork(ctx context.Context) (string, error) {
	config, from := b.params.Network, "the kernel command line"
	if len(config.Links) == 0 {
		from = "DHCP on every interface"
	}
	if own, where := b.offlineNetwork(ctx); len(own.Links) > 0 {
		config, from = own, where
	}
	var err error
	b.network, err = network.Up(ctx, network.Options{
		Config: config, Kernel: network.Netlink{Sys: b.sys}, DHCP: network.Client{HTTPBoot: b.params.Root.kind == fromDHCP},
		Wait: b.params.RootWait, Plug: b.coldplug.plug, Say: b.console.say,
	})
	if err != nil && b.cached {
		return "none in the initramfs, nor is one needed: " + err.Error(), nil
	}
	if err != nil {
		return "", withHint(fmt.Errorf("network by %s: %w", from, err),
			fmt.Sprintf("check cables and DHCP server, or set the network with %s= on the kernel command line or in the node's identity", nodefs.ParamIP))
	}
	if len(config.Links) > 0 {
		if err := b.network.Config.Leave(nodefs.NetworkRuntime); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("by %s: %s", from, b.network), writeResolver("/etc", b.network.DNS)
}

// writeResolver names the name servers where Go's resolver looks.
func writeResolver(dir string, servers []netip.Addr) error {
	var text strings.Builder
	for _, server := range slices.Compact(servers) {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(text.String()), 0o644)
}
