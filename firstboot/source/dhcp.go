package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// DHCPOption is the number of an option of DHCPv4 (RFC 2132), or of one within option 43, which is the vendor's own.
type DHCPOption struct {
	Code uint8
	// Sub is the number within option 43; zero for none.
	Sub uint8
}

// String is the option as the kernel command line has it.
func (o DHCPOption) String() string {
	if o.Sub != 0 {
		return fmt.Sprintf("%d.%d", o.Code, o.Sub)
	}
	return strconv.Itoa(int(o.Code))
}

func parseDHCPOption(text string) (DHCPOption, error) {
	code, sub, within := strings.Cut(text, ".")
	number, err := strconv.ParseUint(code, 10, 8)
	o := DHCPOption{Code: uint8(number)}
	if within && err == nil {
		var subNumber uint64
		subNumber, err = strconv.ParseUint(sub, 10, 8)
		o.Sub = uint8(subNumber)
	}
	if err != nil || o.Code == 0 || o.Code == 255 || within && (o.Code != dhcpv4.OptionVendorSpecificInformation.Code() || o.Sub == 0 || o.Sub == 255) {
		return DHCPOption{}, fmt.Errorf("is %q; want the number of an option, as in 224, or of one within option 43, as in 43.1", text)
	}
	return o, nil
}

// Offer is what a DHCP server offers on an interface.
type Offer struct {
	Interface string
	Packet    *dhcpv4.DHCPv4
}

// value is the option's text in the offer; empty without one.
func (o Offer) value(option DHCPOption) string {
	raw := o.Packet.Options.Get(dhcpv4.GenericOptionCode(option.Code))
	if option.Sub != 0 {
		var within dhcpv4.Options = map[uint8][]byte{}
		if within.FromBytes(raw) != nil {
			return ""
		}
		raw = within[option.Sub]
	}
	// Some servers end a text with NUL (RFC 2132, 2).
	return strings.TrimSpace(strings.TrimRight(string(raw), "\x00"))
}

// dhcp asks DHCP servers for the URL of the identity. Nothing is leased: the machine's network is systemd-networkd's.
func (m Machine) dhcp(option DHCPOption, f fetcher) Source {
	return Source{Name: "URL of DHCP option " + option.String(), Find: func(ctx context.Context) (Found, error) {
		ask := m.Offers
		if ask == nil {
			ask = m.discover
		}
		offers, err := ask(ctx, option)
		if err != nil {
			return Found{}, err
		}
		text, from := "", ""
		for _, offer := range offers {
			switch value := offer.value(option); {
			case value == "" || value == text:
			case text != "":
				return Found{}, document.Problem{File: "DHCP option " + option.String(),
					Text: fmt.Sprintf("is not the same on %s and on %s; set it on one network, or to the same", from, offer.Interface)}
			default:
				text, from = value, offer.Interface
			}
		}
		if text == "" {
			// Another server may be slower, or not up yet.
			return Found{}, fmt.Errorf("%d offers, none of them with option %s", len(offers), option)
		}
		problems := &document.Problems{File: "DHCP on " + from}
		checkURL(problems, "option "+option.String(), text)
		if err := problems.Err(); err != nil {
			return Found{}, err
		}
		return f.find(ctx, nodefs.ParamIdentityDHCP, text)
	}}
}

// offerWait is how long servers may take: some ping an address for three seconds before they offer it.
const offerWait = 8 * time.Second

// discover sends a DHCPDISCOVER on each of the machine's own interfaces that is up, and takes the first offer with the option.
func (m Machine) discover(ctx context.Context, option DHCPOption) ([]Offer, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	const ready = net.FlagUp | net.FlagRunning | net.FlagBroadcast
	own := m.facts().MACs
	var (
		asked  []string
		offers []Offer
		failed []error
		taking sync.Mutex
		all    sync.WaitGroup
	)
	for _, i := range interfaces {
		if i.Flags&ready != ready || !slices.Contains(own, i.HardwareAddr.String()) {
			continue
		}
		asked = append(asked, i.Name)
		all.Go(func() {
			packet, err := discoverOn(ctx, i.Name, option)
			taking.Lock()
			defer taking.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", i.Name, err))
				return
			}
			offers = append(offers, Offer{Interface: i.Name, Packet: packet})
		})
	}
	all.Wait()
	if len(asked) == 0 {
		return nil, errors.New("no interface is up yet")
	}
	if len(offers) == 0 {
		return nil, errors.Join(failed...)
	}
	return offers, nil
}

// discoverOn asks on one interface. An offer without the option is as good as none while another one may come.
func discoverOn(ctx context.Context, name string, option DHCPOption) (*dhcpv4.DHCPv4, error) {
	client, err := nclient4.New(name, nclient4.WithTimeout(offerWait/2), nclient4.WithRetry(2))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	discover, err := dhcpv4.NewDiscovery(client.InterfaceAddr(), dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.GenericOptionCode(option.Code)))
	if err != nil {
		return nil, err
	}
	others := 0
	offer, err := client.SendAndRead(ctx, client.RemoteAddr(), discover, func(p *dhcpv4.DHCPv4) bool {
		if p.MessageType() != dhcpv4.MessageTypeOffer {
			return false
		}
		has := Offer{Packet: p}.value(option) != ""
		if !has {
			others++
		}
		return has
	})
	switch {
	case err == nil:
		return offer, nil
	case others > 0:
		return nil, fmt.Errorf("DHCP servers offer no option %s", option)
	}
	return nil, fmt.Errorf("no DHCP server answers (%w)", err)
}
