//go:build machine

package vm_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/kiln-os/kiln/internal/command"
)

// askWord makes this program a DHCP client on an interface, of a vendor class, that says it is iPXE or not.
const askWord = "ask"

// ask prints the address that an offer has, and its boot file.
func ask(name, class, ipxe string) {
	give := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	card, err := net.InterfaceByName(name)
	give(err)
	client, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
	give(err)
	options := []dhcpv4.Modifier{dhcpv4.WithHwAddr(card.HardwareAddr), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)), dhcpv4.WithRequestedOptions(dhcpv4.OptionBootfileName)}
	if ipxe != "" {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(175), []byte{0xb1, 0x01, 0x01})))
	}
	offer, err := client.DiscoverOffer(context.Background(), options...)
	give(err)
	file := offer.BootFileName
	if text := offer.BootFileNameOption(); text != "" {
		file = text
	}
	fmt.Println(offer.YourIPAddr, offer.ServerIPAddr, file)
}

// TestSegment proves what booting over the network rests on: each kind of client is told the boot file that is for it, and
// HTTP is answered. It boots nothing.
func TestSegment(t *testing.T) {
	set := t.TempDir()
	must(t, os.WriteFile(set+"/boot.ipxe", []byte("#!ipxe\n"), 0o644))
	s := newSegment(t, set)
	for _, line := range []string{"link add card0 type veth peer name port0", "link set card0 address " + segmentMAC, "link set port0 master br0", "link set port0 up", "link set card0 up"} {
		s.run(command.Command{Name: "ip", Args: strings.Fields(line)})
	}
	program, err := os.Executable()
	must(t, err)
	for _, client := range []struct{ what, class, ipxe, want string }{
		{"UEFI over HTTP", "HTTPClient:Arch:00016:UNDI:003001", "", "http://10.88.0.1/kiln.efi"},
		{"UEFI by PXE", "PXEClient:Arch:00007:UNDI:003016", "", "kiln.efi"},
		{"iPXE of a BIOS", "PXEClient:Arch:00000:UNDI:002001", "yes", "http://10.88.0.1/start.ipxe"},
		{"iPXE of UEFI", "PXEClient:Arch:00007:UNDI:003016", "yes", "http://10.88.0.1/start.ipxe"},
	} {
		got := strings.TrimSpace(s.run(command.Command{Name: program, Args: []string{askWord, "card0", client.class, client.ipxe}}))
		if want := segmentNode + " " + segmentServer + " " + client.want; got != want {
			t.Errorf("%s is told %q; want %q", client.what, got, want)
		}
	}
	if requests := s.requests(); requests != "" {
		t.Errorf("the HTTP server was asked: %s", requests)
	}
}
