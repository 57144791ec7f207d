package network

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func addresses(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func TestParameters(t *testing.T) {
	static := Link{Name: "eth0", Addresses: prefixes("192.0.2.10/24"), Gateways: addresses("192.0.2.1")}
	tests := []struct {
		name string
		in   Parameters
		want Config
	}{
		{name: "nothing"},
		{name: "DHCP", in: Parameters{IP: []string{"dhcp"}}, want: Config{Links: []Link{{DHCP: true}}}},
		{name: "DHCP on a link", in: Parameters{IP: []string{"enp1s0:dhcp:9000"}}, want: Config{Links: []Link{{Name: "enp1s0", DHCP: true, MTU: 9000}}}},
		{name: "static", in: Parameters{IP: []string{"192.0.2.10::192.0.2.1:255.255.255.0:node-1:eth0:none"}}, want: Config{Links: []Link{static}}},
		{name: "static with DNS", in: Parameters{IP: []string{"192.0.2.10::192.0.2.1:24::eth0:none:192.0.2.2:192.0.2.3"}, Nameserver: []string{"2001:db8::53"}},
			want: Config{Links: []Link{static}, DNS: addresses("192.0.2.2", "192.0.2.3", "2001:db8::53")}},
		{name: "static with MTU", in: Parameters{IP: []string{"192.0.2.10::192.0.2.1:24::eth0:none:1400:02:00:00:00:00:01"}},
			want: Config{Links: []Link{{Name: "eth0", Addresses: static.Addresses, Gateways: static.Gateways, MTU: 1400}}}},
		{name: "both families", in: Parameters{IP: []string{"192.0.2.10::192.0.2.1:24::eth0:none", "[2001:db8::10]::[2001:db8::1]:64::eth0:none:[2001:db8::53]"}},
			want: Config{Links: []Link{{Name: "eth0", Addresses: prefixes("192.0.2.10/24", "2001:db8::10/64"), Gateways: addresses("192.0.2.1", "2001:db8::1")}}, DNS: addresses("2001:db8::53")}},
		{name: "without a gateway", in: Parameters{IP: []string{"192.0.2.10:::24::eth0:off"}}, want: Config{Links: []Link{{Name: "eth0", Addresses: static.Addresses}}}},
		{name: "VLAN", in: Parameters{IP: []string{"eth0.0005:dhcp"}, VLAN: []string{"eth0.0005:eth0"}},
			want: Config{Links: []Link{{Name: "eth0.0005", DHCP: true, VLAN: &VLAN{ID: 5, Parent: "eth0"}}}}},
		{name: "VLAN on a bond", in: Parameters{IP: []string{"192.0.2.10:::24::vlan12:none"}, VLAN: []string{"vlan12:bond0"}, Bond: []string{"bond0:eth0,eth1:mode=4,miimon=50,lacp_rate=fast,xmit_hash_policy=layer3+4:9000"}},
			want: Config{Links: []Link{
				{Name: "bond0", MTU: 9000, Bond: &Bond{Links: []string{"eth0", "eth1"}, Mode: "802.3ad", Monitor: 50, LACPFast: true, HashPolicy: "layer3+4"}},
				{Name: "vlan12", Addresses: static.Addresses, VLAN: &VLAN{ID: 12, Parent: "bond0"}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			have, err := tt.in.Parse()
			if err != nil || !reflect.DeepEqual(have, tt.want) {
				t.Errorf("have %+v, %v\nwant %+v", have, err, tt.want)
			}
		})
	}
}

func TestParametersRefused(t *testing.T) {
	_, err := Parameters{
		IP: []string{"none", "auto6", "192.0.2.10", "192.0.2.10::192.0.2.1:999::eth0:none", "192.0.2.10::gateway:24::eth0:none", "[2001:db8::1:dhcp",
			"eth0:dhcp:9", "192.0.2.10:::255.0.255.0::eth0:none"},
		VLAN: []string{"vlan5", "vlan0:eth0", "lan:eth0", "vlan4095:eth0"}, Bond: []string{"bond0", "bond0:eth0:mode=best", "bond0:eth0:speed=1,miimon=x"}, Nameserver: []string{"dns.example"},
	}.Parse()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"ip=none: leaves the machine without a network", `ip=auto6: "auto6" is not known here`, "ip=192.0.2.10: \"192.0.2.10\" is not known", `"999" is no netmask`,
		`"gateway" is no IP address`, "a [ without its ]", `"9" is no MTU`, `"255.0.255.0" is no netmask`, "vlan=vlan5: want NAME:INTERFACE", "vlan=vlan0:eth0: 0 is no VLAN's number", "vlan=lan:eth0: want", "4095 is no VLAN's",
		"bond=bond0: want NAME:LINK", `mode: "best" is not known; want one of balance-rr`, `option "speed" is not known`, `miimon: "x"`, `nameserver=dns.example: "dns.example" is no IP`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message lacks %q:\n%v", want, err)
		}
	}
	for name, p := range map[string]Parameters{
		"static on no link of several": {IP: []string{"192.0.2.10:::24:::none", "eth1:dhcp"}},
		"DHCP everywhere and a bond":   {IP: []string{"dhcp"}, Bond: []string{"bond0:eth0,eth1"}},
	} {
		if have, err := p.Parse(); err == nil || !strings.Contains(err.Error(), "name one") {
			t.Errorf("%s: have %+v, %v", name, have, err)
		}
	}
}
