package cluster

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
)

func TestMachineNetwork(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{name: "DHCP on one", text: `links: [{name: enp1s0, dhcp: true}]`},
		{name: "everything", text: `
dns: [192.0.2.53, "2001:db8::53"]
links:
- name: bond0
  bond: {links: ["52:54:00:12:34:56", enp2s0], mode: 802.3ad, lacpFast: true, hashPolicy: layer3+4}
  mtu: 9000
- name: vlan5
  vlan: {id: 5, link: bond0}
  addresses: [192.0.2.10/24, "2001:db8::10/64"]
  gateways: [192.0.2.1, "2001:db8::1"]`},
		{name: "nothing", text: `links: []`, want: []string{"network.links: missing; name the interfaces"}},
		{name: "all wrong", text: `
dns: [dns.example]
links:
- name: "en p"
  addresses: [192.0.2.10]
  gateways: [192.0.2.1, 192.0.2.2, here]
  mtu: 9
- name: "52:54:00:12:34:56"
  bond: {links: [], mode: best, hashPolicy: layer9}
- name: vlan5
  vlan: {id: 4095, link: vlan5}
- name: vlan5
  vlan: {id: 1, link: eth0}
  bond: {links: ["a b"]}`, want: []string{
			`network.dns[0]: "dns.example" is no IP address`, `network.links[0].name: "en p" is no interface's name`,
			`network.links[0].addresses[0]: "192.0.2.10" is no address with its network`, "network.links[0].gateways[1]: is a second gateway", `network.links[0].gateways[2]: "here"`,
			"network.links[0].mtu: is 9", `network.links[1].name: "52:54:00:12:34:56" is no interface's name`, "network.links[1].bond.links: missing", `network.links[1].bond.mode: unknown "best"`,
			`network.links[1].bond.hashPolicy: unknown "layer9"`, "network.links[2].vlan.id: is 4095", `network.links[2].vlan.link: "vlan5" is not another`,
			`network.links[3].name: "vlan5" stands for two links`, "network.links[3].vlan: stands beside bond", `network.links[3].bond.links[0]: "a b"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var doc struct {
				document.Header
				Network *MachineNetwork `json:"network"`
			}
			text := "apiVersion: " + document.APIVersion + "\nkind: Test\nnetwork:\n  " + strings.ReplaceAll(strings.TrimSpace(tt.text), "\n", "\n  ") + "\n"
			if err := document.Decode("id", []byte(text), "Test", &doc); err != nil {
				t.Fatal(err)
			}
			problems := &document.Problems{File: "id"}
			checkMachineNetwork(problems, "network", doc.Network)
			err := problems.Err()
			if len(tt.want) == 0 && err != nil {
				t.Error(err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), "id: "+want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
			if have := len(document.List(err)); have != len(tt.want) {
				t.Errorf("%d problems, want %d:\n%v", have, len(tt.want), err)
			}
		})
	}
	problems := &document.Problems{File: "id"}
	checkMachineNetwork(problems, "network", nil)
	if err := problems.Err(); err != nil {
		t.Errorf("without a network: %v", err)
	}
}
