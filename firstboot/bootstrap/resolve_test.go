package bootstrap

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
)

// rack is a machine that tells everything.
func rack() place {
	p := place{
		facts: Facts{Hostname: "rack1-u4.example.org", MACs: []string{"52:54:00:aa:bb:01", "52:54:00:aa:bb:02"},
			UUID: "4c4c4544-0042-3510-8052-b4c04f4e3232", Serial: "VMware-56 4D/1"},
		route: func(string) (netip.Addr, error) { return netip.MustParseAddr("10.0.2.15"), nil },
	}
	for _, address := range []string{"10.0.2.15", "10.0.2.10", "192.168.7.4", "fe80::1%eth0", "2001:db8::15"} {
		p.addresses = append(p.addresses, netip.MustParseAddr(address))
	}
	return p
}

func TestMatch(t *testing.T) {
	tests := []struct {
		name  string
		match *cluster.Match
		facts func(*Facts)
		want  string
		// waits says that the error may mend itself.
		waits bool
	}{
		{"no match", nil, nil, "", false},
		{"all fit, however they are written", &cluster.Match{Hostname: "RACK1-u4", MAC: "52-54-00-AA-BB-02", UUID: "4C4C4544-0042-3510-8052-B4C04F4E3232", Serial: "vmware-56 4d/1"}, nil, "", false},
		{"whole hostname", &cluster.Match{Hostname: "rack1-u4.example.org"}, nil, "", false},
		{"all differ", &cluster.Match{Hostname: "a", MAC: "52:54:00:00:00:01", UUID: "u", Serial: "s"}, nil,
			"identity: node.match.hostname: is a, but this machine has rack1-u4.example.org; give this machine its own identity, or correct node.match\n" +
				"identity: node.match.mac: is 52:54:00:00:00:01, but this machine has 52:54:00:aa:bb:01, 52:54:00:aa:bb:02; give this machine its own identity, or correct node.match\n" +
				"identity: node.match.serial: is s, but", false},
		{"firmware says nothing", &cluster.Match{Serial: "s"}, func(f *Facts) { f.Serial = "" }, "node.match.serial: is s, but this machine has none", false},
		{"hostname differs", &cluster.Match{Hostname: "rack9"}, nil, "node.match.hostname: is rack9, but this machine has rack1-u4.example.org", false},
		{"no hostname yet", &cluster.Match{Hostname: "rack1-u4"}, func(f *Facts) { f.Hostname = "" }, "this one has no name yet; waiting", true},
	}
	for _, tt := range tests {
		p := rack()
		if tt.facts != nil {
			tt.facts(&p.facts)
		}
		_, err := resolveNode(cluster.Identity{Node: cluster.Node{Name: "w1", Match: tt.match}}, p)
		checkError(t, tt.name, err, tt.want, tt.waits)
	}
}

func checkError(t *testing.T, name string, err error, want string, waits bool) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: have %v, want %s", name, err, want)
	case err != nil && IsPermanent(err) == waits:
		t.Errorf("%s: permanent %v: %v", name, !waits, err)
	}
}

func TestPoolMember(t *testing.T) {
	const subnet = "10.0.2.0/24"
	tests := []struct {
		name, pattern, subnet string
		machine               func(*place)
		// node and address are what becomes of it.
		node, address string
		want          string
		waits         bool
	}{
		{"by hostname", "", subnet, nil, "rack1-u4", "10.0.2.15", "", false},
		{"by MAC", "w-${mac}", subnet, nil, "w-525400aabb01", "10.0.2.15", "", false},
		{"by UUID", "${uuid}", subnet, nil, "4c4c4544-0042-3510-8052-b4c04f4e3232", "10.0.2.15", "", false},
		{"by serial, made a name", "Worker_${serial}!", subnet, nil, "worker-vmware-56-4d-1", "10.0.2.15", "", false},
		{"two variables", "${hostname}-${mac}", subnet, nil, "rack1-u4-525400aabb01", "10.0.2.15", "", false},
		{"a name of an earlier boot", "worker-3", subnet, nil, "worker-3", "10.0.2.15", "", false},
		{"too long", "${uuid}-${uuid}", subnet, nil, "", "", "1 to 63 characters; change the pool's nodeName", false},
		{"unknown variable", "${zone}", subnet, nil, "", "", "has ${zone}; want ${hostname}", false},
		{"serial is missing", "w-${serial}", subnet, func(p *place) { p.facts.Serial = "" }, "", "", "does not tell its ${serial}", false},
		{"hostname is missing", "", subnet, func(p *place) { p.facts.Hostname = "" }, "", "", "needs ${hostname}, and this machine has no name yet", true},
		{"address by route", "", "", nil, "rack1-u4", "10.0.2.15", "", false},
		{"no route", "", "", func(p *place) {
			p.route = func(string) (netip.Addr, error) { return netip.Addr{}, errors.New("network is unreachable") }
		}, "", "", "10.0.2.10:6443 is reached: network is unreachable; give the pool a subnet", true},
		{"no address there", "", "172.16.0.0/12", nil, "", "", "waiting for an address in 172.16.0.0/12, the pool's subnet; addresses there now: 10.0.2.15, 192.168.7.4, 2001:db8::15", true},
		{"no address at all", "", subnet, func(p *place) { p.addresses = nil }, "", "", "addresses there now: none", true},
		{"several", "", "10.0.2.0/24", func(p *place) { p.addresses = append(p.addresses, netip.MustParseAddr("10.0.2.16")) }, "", "",
			"10.0.2.15, 10.0.2.16 in 10.0.2.0/24", true},
		{"the same twice", "", subnet, func(p *place) { p.addresses = append(p.addresses, netip.MustParseAddr("10.0.2.15")) }, "rack1-u4", "10.0.2.15", "", false},
		{"IPv6", "", "2001:db8::/64", nil, "rack1-u4", "2001:db8::15", "", false},
	}
	for _, tt := range tests {
		p := rack()
		if tt.machine != nil {
			tt.machine(&p)
		}
		id := cluster.Identity{Node: cluster.Node{Pool: "racks", Name: tt.pattern, Subnet: tt.subnet}, Cluster: cluster.Cluster{Endpoint: "10.0.2.10:6443"}}
		got, err := resolveNode(id, p)
		checkError(t, tt.name, err, tt.want, tt.waits)
		if err == nil && (got.Node.Name != tt.node || got.Node.Address != tt.address) {
			t.Errorf("%s: have %s at %s, want %s at %s", tt.name, got.Node.Name, got.Node.Address, tt.node, tt.address)
		}
	}
}

func TestSingleNodeStaysAsItIs(t *testing.T) {
	id := cluster.Identity{Node: cluster.Node{Name: "w1", Address: "10.9.9.9"}}
	if got, err := resolveNode(id, rack()); err != nil || got.Node.Name != "w1" || got.Node.Address != "10.9.9.9" {
		t.Errorf("have %+v, %v", got.Node, err)
	}
}

func TestSourceAddress(t *testing.T) {
	// A route to this machine itself is none that other nodes could use.
	if address, err := sourceAddress(t.Context(), "127.0.0.1:6443"); err == nil || !strings.Contains(err.Error(), "on this machine") {
		t.Errorf("have %s, %v", address, err)
	}
	if _, err := sourceAddress(t.Context(), "no port"); err == nil {
		t.Error("took an endpoint without a port")
	}
}
