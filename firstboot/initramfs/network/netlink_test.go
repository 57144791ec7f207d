package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownNetwork moves the test to a network of its own, which goes with its thread.
func ownNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("making a network namespace takes root")
		}
		t.Fatal(err)
	}
}

// TestNetlink does each operation with the kernel's own links.
func TestNetlink(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ownNetwork(t)
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}); err != nil {
			t.Error(err)
			return
		}
		kernel := Netlink{Sys: t.TempDir()}
		address := netip.MustParsePrefix("192.0.2.10/24")
		for _, o := range []Operation{
			{Verb: "up", Link: "wire"}, {Verb: "up", Link: "eth0"}, {Verb: "mtu", Link: "eth0", MTU: 1400}, {Verb: "address", Link: "eth0", Address: address},
			{Verb: "route", Link: "eth0", Route: Route{Network: netip.MustParsePrefix("198.51.100.1/32")}},
			{Verb: "route", Link: "eth0", Route: Route{Network: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("198.51.100.1")}},
		} {
			// What is so already is no error.
			if err := errors.Join(kernel.Do(o), kernel.Do(o)); err != nil {
				t.Errorf("%s: %v", o, err)
			}
		}
		for _, o := range []Operation{{Verb: "vlan", Link: "vlan5", VLAN: &VLAN{ID: 5, Parent: "eth0"}}, {Verb: "bond", Link: "bond7", Bond: &Bond{Mode: "active-backup", Monitor: 100}}} {
			if err := kernel.Do(o); errors.Is(err, unix.EOPNOTSUPP) {
				t.Logf("this kernel has no %s", o)
			} else if err != nil {
				t.Errorf("%s: %v", o, err)
			}
		}
		if err := kernel.Do(Operation{Verb: "dance", Link: "eth0"}); err == nil {
			t.Error("an unknown operation is no error")
		}
		checkLinks(t, kernel, address)
	}()
	<-done
}

func checkLinks(t *testing.T, kernel Netlink, address netip.Prefix) {
	interfaces, err := kernel.Interfaces()
	at := slices.IndexFunc(interfaces, func(i Interface) bool { return i.Name == "eth0" })
	if err != nil || at < 0 || !interfaces[at].Carrier || interfaces[at].Physical {
		t.Errorf("interfaces are %+v, %v", interfaces, err)
		return
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil || link.Attrs().MTU != 1400 {
		t.Errorf("eth0 is %+v, %v", link, err)
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addresses) != 1 || addresses[0].IPNet.String() != address.String() {
		t.Errorf("eth0 has %v, %v", addresses, err)
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.String() == "198.51.100.1" }) {
		t.Errorf("routes are %v, %v", routes, err)
	}
}

// TestClient asks a real server over a wire.
func TestClient(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a raw socket takes root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ownNetwork(t)
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}); err != nil {
			t.Error(err)
			return
		}
		kernel := Netlink{Sys: t.TempDir()}
		for _, o := range []Operation{{Verb: "up", Link: "wire"}, {Verb: "up", Link: "eth0"}, {Verb: "address", Link: "wire", Address: netip.MustParsePrefix("192.0.2.1/24")}} {
			if err := kernel.Do(o); err != nil {
				t.Error(err)
				return
			}
		}
		asked := make(chan string, 16)
		server, err := server4.NewServer("wire", &net.UDPAddr{IP: net.IPv4zero, Port: 67}, answerWith(asked))
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		go func() { _ = server.Serve() }()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		lease, err := Client{HTTPBoot: true}.Lease(ctx, "eth0")
		if err != nil || lease.Address.String() != "192.0.2.77/24" || lease.BootFile != "http://192.0.2.1/set/kiln.efi" {
			t.Errorf("have %+v, %v", lease, err)
		}
		if class := <-asked; !strings.HasPrefix(class, "HTTPClient:Arch:00016") {
			t.Errorf("asked as %q", class)
		}
	}()
	<-done
}

// answerWith gives everybody the same address.
func answerWith(asked chan<- string) server4.Handler {
	return func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		kind := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		asked <- m.ClassIdentifier()
		reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 77)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))), dhcpv4.WithOption(dhcpv4.OptBootFileName("http://192.0.2.1/set/kiln.efi")))
		if err == nil {
			_, _ = conn.WriteTo(reply.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
	}
}
