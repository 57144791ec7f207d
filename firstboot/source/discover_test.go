package source

import (
	"bytes"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/kiln-os/kiln/internal/command"
)

// ownNetwork says, in a process's environment, that it has a network namespace of its own.
const ownNetwork = "KILN_TEST_OWN_NETWORK"

// A real server on a real link: the two ends of a veth pair in a network namespace that has nothing else.
func TestDiscover(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		inOwnNetwork(t)
		return
	}
	for _, args := range []string{"link add kt0 type veth peer name kt1", "addr add 10.9.9.1/24 dev kt1", "link set kt0 up", "link set kt1 up"} {
		if _, err := (command.Exec{}).Run(t.Context(), command.Command{Name: "ip", Args: strings.Fields(args)}); err != nil {
			t.Fatal(err)
		}
	}
	const url = "https://10.9.9.1/${mac}"
	requested := make(chan dhcpv4.OptionCodeList, 8)
	server, err := server4.NewServer("kt1", &net.UDPAddr{IP: net.IPv4zero, Port: 67}, func(c net.PacketConn, _ net.Addr, request *dhcpv4.DHCPv4) {
		requested <- request.ParameterRequestList()
		// Two servers: the first one does not know the option.
		for _, with := range []dhcpv4.Modifier{dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(231), []byte(url))} {
			offer, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithYourIP(net.IPv4(10, 9, 9, 7)),
				dhcpv4.WithServerIP(net.IPv4(10, 9, 9, 1)), with)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.WriteTo(offer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { _ = server.Serve() }()
	link := waitForCarrier(t, "kt0")
	m := Machine{Facts: func() Facts { return Facts{MACs: []string{link.HardwareAddr.String()}} }}
	offers, err := m.discover(t.Context(), DHCPOption{Code: 231})
	if err != nil || len(offers) != 1 || offers[0].Interface != "kt0" || offers[0].value(DHCPOption{Code: 231}) != url {
		t.Fatalf("have %+v, %v", offers, err)
	}
	if list := <-requested; !slices.ContainsFunc(list, func(c dhcpv4.OptionCode) bool { return c.Code() == 231 }) {
		t.Errorf("asked for %s", list)
	}
	if _, err := (Machine{Facts: func() Facts { return Facts{} }}).discover(t.Context(), DHCPOption{Code: 231}); err == nil || err.Error() != "no interface is up yet" {
		t.Errorf("have %v", err)
	}
}

// waitForCarrier waits until the kernel has noticed that the other end of the link is up.
func waitForCarrier(t *testing.T, name string) *net.Interface {
	t.Helper()
	for range 200 {
		link, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if link.Flags&net.FlagRunning != 0 {
			return link
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s has had no carrier for two seconds", name)
	return nil
}

// inOwnNetwork runs the calling test in a process with a network of its own.
func inOwnNetwork(t *testing.T) {
	if command.Find("unshare") == "" || command.Find("ip") == "" {
		t.Skip("needs unshare and ip")
	}
	try := command.Command{Name: "unshare", Args: []string{"--map-root-user", "--net", "ip", "link", "add", "kt0", "type", "veth", "peer", "name", "kt1"}}
	if _, err := (command.Exec{}).Run(t.Context(), try); err != nil {
		t.Skipf("needs a network namespace and veth: %v", err)
	}
	var out bytes.Buffer
	_, err := command.Exec{}.Run(t.Context(), command.Command{Name: "unshare", Stdout: &out, Env: []string{ownNetwork + "=1"},
		Args: []string{"--map-root-user", "--net", os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}})
	if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out.String())
	}
}
