package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// fakeKernel shows a carrier on the interfaces with a cable, once they are up.
type fakeKernel struct {
	mu         sync.Mutex
	interfaces []Interface
	cables     []string
	did        []string
	// hidden interfaces come with the next look.
	hidden []Interface
}

func (k *fakeKernel) Interfaces() ([]Interface, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.Clone(k.interfaces)
	k.interfaces = append(k.interfaces, k.hidden...)
	k.hidden = nil
	return list, nil
}

func (k *fakeKernel) Do(o Operation) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := slices.IndexFunc(k.interfaces, func(i Interface) bool { return i.Name == o.Link })
	switch {
	case o.Verb == "bond" || o.Verb == "vlan":
		k.interfaces = append(k.interfaces, Interface{Name: o.Link})
		k.cables = append(k.cables, o.Link)
	case at < 0:
		return errors.New("no such link")
	case o.Verb == "up":
		k.interfaces[at].Carrier = slices.Contains(k.cables, o.Link)
	}
	if !slices.Contains(k.did, o.String()) {
		k.did = append(k.did, o.String())
	}
	return nil
}

// fakeServer answers on some links.
type fakeServer map[string]Lease

func (s fakeServer) Lease(ctx context.Context, link string) (Lease, error) {
	if lease, ok := s[link]; ok {
		return lease, nil
	}
	<-ctx.Done()
	return Lease{}, ctx.Err()
}

func card(name, mac string, names ...string) Interface {
	return Interface{Name: name, MAC: mac, Names: names, Physical: true}
}

func TestUp(t *testing.T) {
	lease := Lease{Address: netip.MustParsePrefix("10.0.2.15/24"), Routes: []Route{{Network: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.2.2")}},
		DNS: addresses("10.0.2.3"), Server: netip.MustParseAddr("10.0.2.2"), MTU: 1400, BootFile: "http://10.0.2.2/set/kiln.efi"}
	cards := []Interface{{Name: "lo"}, card("eth0", "02:00:00:00:00:01", "enp1s0"), card("eth1", "02:00:00:00:00:02", "enp2s0")}
	const both = "eth0,eth1"
	tests := []struct {
		name   string
		config Config
		cables string
		hidden []Interface
		server fakeServer
		// did are the operations, in order.
		did []string
		dns []netip.Addr
		// anyOrder wants no more than that those are among them.
		anyOrder bool
		wantErr  []string
	}{
		{name: "DHCP on the link with a cable", cables: "eth1", server: fakeServer{"eth1": lease}, dns: lease.DNS,
			did: []string{"up eth0", "up eth1", "mtu 1400 on eth1", "address 10.0.2.15/24 on eth1", "route to 0.0.0.0/0 by 10.0.2.2 on eth1, metric 1024"}},
		{name: "DHCP on both", cables: both, server: fakeServer{"eth0": lease, "eth1": {Address: netip.MustParsePrefix("10.9.0.5/16"), Server: netip.MustParseAddr("10.9.0.1")}}, anyOrder: true, dns: lease.DNS,
			did: []string{"address 10.0.2.15/24 on eth0", "address 10.9.0.5/16 on eth1"}},
		{name: "static", cables: both, config: Config{Links: []Link{{Name: "enp2s0", MTU: 9000, Addresses: prefixes("192.0.2.10/24"), Gateways: addresses("192.0.2.1")}}, DNS: addresses("192.0.2.2")},
			dns: addresses("192.0.2.2"), did: []string{"mtu 9000 on eth1", "up eth1", "address 192.0.2.10/24 on eth1", "route to 0.0.0.0/0 by 192.0.2.1 on eth1"}},
		{name: "static by hardware address, gateway outside", cables: both, config: Config{Links: []Link{{Name: "02:00:00:00:00:01", Addresses: prefixes("192.0.2.10/32", "2001:db8::2/64"), Gateways: addresses("198.51.100.1", "fe80::1")}}},
			did: []string{"up eth0", "address 192.0.2.10/32 on eth0", "address 2001:db8::2/64 on eth0", "route to 198.51.100.1/32 on eth0", "route to 0.0.0.0/0 by 198.51.100.1 on eth0", "route to ::/0 by fe80::1 on eth0"}},
		{name: "VLAN on a bond", cables: both, server: fakeServer{"vlan5": lease}, dns: lease.DNS, config: Config{Links: []Link{
			{Name: "vlan5", DHCP: true, VLAN: &VLAN{ID: 5, Parent: "bond0"}}, {Name: "bond0", Bond: &Bond{Links: []string{"enp1s0", "eth1"}, Mode: "802.3ad"}}}},
			did: []string{"bond bond0 (802.3ad)", "join eth0 to bond0", "up eth0", "join eth1 to bond0", "up eth1", "up bond0", "vlan vlan5 (5 on bond0)", "up vlan5",
				"mtu 1400 on vlan5", "address 10.0.2.15/24 on vlan5", "route to 0.0.0.0/0 by 10.0.2.2 on vlan5, metric 1024"}},
		{name: "a card that comes late", cables: "eth2", hidden: []Interface{card("eth2", "02:00:00:00:00:03")}, server: fakeServer{"eth2": lease}, dns: lease.DNS, config: Config{Links: []Link{{Name: "eth2", DHCP: true}}},
			did: []string{"up eth2", "mtu 1400 on eth2", "address 10.0.2.15/24 on eth2", "route to 0.0.0.0/0 by 10.0.2.2 on eth2, metric 1024"}},
		{name: "no server", cables: "eth1", wantErr: []string{"no DHCP server answered, waited for 300ms; asked on: eth1", "eth0 02:00:00:00:00:01 no carrier", "eth1 02:00:00:00:00:02 has a carrier"}},
		{name: "no cable", wantErr: []string{"asked on: no interface, for none has a carrier"}},
		{name: "no such card", cables: both, config: Config{Links: []Link{{Name: "ens9", DHCP: true}}}, wantErr: []string{"waited for 300ms for the interface ens9", "eth0 02:00:00:00:00:01"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kernel := &fakeKernel{interfaces: slices.Clone(cards), cables: strings.Split(tt.cables, ","), hidden: tt.hidden}
			wait := time.Minute
			if tt.wantErr != nil {
				wait = 300 * time.Millisecond
			}
			plugged := 0
			result, err := Up(t.Context(), Options{Config: tt.config, Kernel: kernel, DHCP: tt.server, Wait: wait, Plug: func() { plugged++ }, Say: func(string, ...any) {}})
			if plugged == 0 {
				t.Error("never looked for drivers")
			}
			if tt.wantErr != nil {
				for _, want := range tt.wantErr {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("message lacks %q: %v", want, err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			missing := slices.DeleteFunc(slices.Clone(tt.did), func(o string) bool { return slices.Contains(kernel.did, o) })
			if len(missing) > 0 || !tt.anyOrder && !slices.Equal(kernel.did, tt.did) {
				t.Errorf("did   %q\nwanted %q", kernel.did, tt.did)
			}
			if !reflect.DeepEqual(result.DNS, tt.dns) {
				t.Errorf("DNS %v, want %v", result.DNS, tt.dns)
			}
		})
	}
}

func TestUpWithoutACard(t *testing.T) {
	_, err := Up(t.Context(), Options{Kernel: &fakeKernel{}, Wait: time.Millisecond, Plug: func() {}, Say: func(string, ...any) {}})
	if err == nil || !strings.Contains(err.Error(), "none: does the Image document's modules name the network card's driver?") {
		t.Errorf("have %v", err)
	}
}

// What is left for systemd names cards by their hardware address: they have other names by then.
func TestNetworkd(t *testing.T) {
	kernel := &fakeKernel{interfaces: []Interface{card("eth0", "02:00:00:00:00:01", "enp1s0"), card("eth1", "02:00:00:00:00:02")}, cables: []string{"eth0", "eth1"}}
	result, err := Up(t.Context(), Options{Kernel: kernel, Wait: time.Minute, Plug: func() {}, Say: func(string, ...any) {}, Config: Config{DNS: addresses("192.0.2.2"), Links: []Link{
		{Name: "bond0", MTU: 9000, Bond: &Bond{Links: []string{"enp1s0", "eth1"}, Mode: "802.3ad", Monitor: 100, LACPFast: true, HashPolicy: "layer2+3"}},
		{Name: "vlan5", Addresses: prefixes("192.0.2.10/24"), Gateways: addresses("192.0.2.1"), VLAN: &VLAN{ID: 5, Parent: "bond0"}},
		{Name: "vlan6", Addresses: prefixes("192.0.3.10/24"), VLAN: &VLAN{ID: 6, Parent: "eth1"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "network")
	if err := result.Config.Leave(dir); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"40-kiln-0.netdev":                    "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\nTransmitHashPolicy=layer2+3\nLACPTransmitRate=fast\n",
		"40-kiln-0-0.network":                 "[Match]\nPermanentMACAddress=02:00:00:00:00:01\n\n[Network]\nBond=bond0\n",
		"40-kiln-0-1.network":                 "[Match]\nPermanentMACAddress=02:00:00:00:00:02\n\n[Network]\nBond=bond0\n",
		"40-kiln-0.network":                   "[Match]\nName=bond0\n\n[Link]\nMTUBytes=9000\n\n[Network]\nVLAN=vlan5\nDNS=192.0.2.2\n",
		"40-kiln-1.netdev":                    "[NetDev]\nName=vlan5\nKind=vlan\n\n[VLAN]\nId=5\n",
		"40-kiln-1.network":                   "[Match]\nName=vlan5\n\n[Network]\nAddress=192.0.2.10/24\nDNS=192.0.2.2\n\n[Route]\nGateway=192.0.2.1\nGatewayOnLink=yes\n",
		"40-kiln-2.netdev":                    "[NetDev]\nName=vlan6\nKind=vlan\n\n[VLAN]\nId=6\n",
		"40-kiln-2.network":                   "[Match]\nName=vlan6\n\n[Network]\nAddress=192.0.3.10/24\nDNS=192.0.2.2\n",
		"40-kiln-parent-020000000002.network": "[Match]\nPermanentMACAddress=02:00:00:00:00:02\n\n[Network]\nLinkLocalAddressing=no\nVLAN=vlan6\nDNS=192.0.2.2\n",
	}
	names, _ := os.ReadDir(dir)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name.Name()))
		if have, _ := strings.CutPrefix(string(text), header); err != nil || have != want[name.Name()] {
			t.Errorf("%s, %v:\n%s\nwant:\n%s", name.Name(), err, have, want[name.Name()])
		}
	}
	if len(names) != len(want) {
		t.Errorf("%d files, want %d", len(names), len(want))
	}
	if have := (Config{Links: []Link{{DHCP: true}}}).Networkd()["40-kiln-0.network"]; !strings.Contains(have, "Name=en* eth*\nKind=!*") || !strings.Contains(have, "ClientIdentifier=mac") {
		t.Errorf("DHCP everywhere:\n%s", have)
	}
}

func TestReadLease(t *testing.T) {
	answer := func(modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		ack, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 2, 15)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 2)))}, modifiers...)...)
		if err != nil {
			t.Fatal(err)
		}
		return ack
	}
	routes := dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)}, Router: net.IPv4(10, 0, 2, 9)},
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(0, 0, 0, 0), Mask: net.CIDRMask(0, 32)}, Router: net.IPv4(10, 9, 9, 9)})
	tests := []struct {
		name string
		ack  *dhcpv4.DHCPv4
		want string
	}{
		{"plain", answer(dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 0, 2, 2))), dhcpv4.WithOption(dhcpv4.OptDNS(net.IPv4(10, 0, 2, 3)))),
			"{10.0.2.15/24 [{0.0.0.0/0 10.0.2.2 0}] [10.0.2.3]  10.0.2.2 0}"},
		{"classless routes instead of routers", answer(dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 0, 2, 2))), dhcpv4.WithOption(routes)),
			"{10.0.2.15/24 [{192.0.2.0/24 10.0.2.9 0} {10.9.9.9/32 invalid IP 0} {0.0.0.0/0 10.9.9.9 0}] []  10.0.2.2 0}"},
		{"boot file in option 67", answer(dhcpv4.WithOption(dhcpv4.OptBootFileName("http://a/kiln.efi"))), "{10.0.2.15/24 [] [] http://a/kiln.efi 10.0.2.2 0}"},
		{"boot file in the header", answer(func(d *dhcpv4.DHCPv4) { d.BootFileName = "http://b/kiln.efi" }), "{10.0.2.15/24 [] [] http://b/kiln.efi 10.0.2.2 0}"},
		{"MTU", answer(dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0x78})), "{10.0.2.15/24 [] []  10.0.2.2 1400}"},
		{"MTU that cuts off", answer(dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 68})), "{10.0.2.15/24 [] []  10.0.2.2 0}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lease, err := ReadLease(tt.ack)
			if have := fmt.Sprint(lease); err != nil || have != tt.want {
				t.Errorf("have %s, %v\nwant %s", have, err, tt.want)
			}
		})
	}
	empty, err := dhcpv4.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLease(empty); err == nil {
		t.Error("an answer without an address is no error")
	}
}

func TestBootFile(t *testing.T) {
	from := func(files ...string) Result {
		r := Result{Leases: map[string]Lease{}}
		for i, file := range files {
			r.Leases[fmt.Sprint("eth", i)] = Lease{BootFile: file}
		}
		return r
	}
	if file, err := from("snponly.efi", "https://a/b/kiln.efi").BootFile(); err != nil || file != "https://a/b/kiln.efi" {
		t.Errorf("have %q, %v", file, err)
	}
	for want, r := range map[string]Result{`eth0: "pxelinux.0"`: from("pxelinux.0"), "network is a static one": from()} {
		if file, err := r.BootFile(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %q, %v; want %s", file, err, want)
		}
	}
}

func TestPredictableNames(t *testing.T) {
	sys := t.TempDir()
	write := func(file, text string) {
		path := filepath.Join(sys, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("bus/pci/slots/3/address", "0000:01:00\n")
	write("devices/pci0000:00/0000:00:02.0/0000:01:00.0/virtio1/driver", "")
	write("devices/pci0000:00/0000:00:1c.4/0000:0a:00.1/index", "2\n")
	write("devices/pci0001:00/0001:00:02.0/vendor", "")
	for device, want := range map[string][]string{
		"devices/pci0000:00/0000:00:02.0/0000:01:00.0/virtio1": {"enp1s0", "enp1s0f0", "ens3", "ens3f0"},
		"devices/pci0000:00/0000:00:1c.4/0000:0a:00.1":         {"enp10s0f1", "eno2"},
		"devices/pci0001:00/0001:00:02.0":                      {"enP1p0s2", "enP1p0s2f0"},
		"devices/platform/serial":                              nil,
	} {
		if have := PredictableNames(sys, filepath.Join(sys, device)); !slices.Equal(have, want) {
			t.Errorf("%s: have %q, want %q", device, have, want)
		}
	}
}
