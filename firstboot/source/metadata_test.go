package source

import (
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
)

func TestFill(t *testing.T) {
	all := Metadata{Hostname: "h", InstanceID: "i", Zone: "eu-1a", Region: "eu-1", ProviderID: "aws:///eu-1a/i-0abc"}
	tests := []struct {
		name     string
		node     cluster.Node
		metadata Metadata
		want     [3]string
		warns    []string
	}{
		{name: "all open", metadata: all, want: [3]string{"eu-1a", "eu-1", "aws:///eu-1a/i-0abc"}},
		{name: "nothing open", node: cluster.Node{Zone: "a", Region: "b", ProviderID: "c://d"}, metadata: all, want: [3]string{"a", "b", "c://d"}},
		{name: "labels say it", node: cluster.Node{Labels: map[string]string{labelZone: "x", labelRegion: "y"}}, metadata: all, want: [3]string{"", "", "aws:///eu-1a/i-0abc"}},
		{name: "nothing known", want: [3]string{}},
		{name: "what a Node cannot have", metadata: Metadata{Zone: "nova zone", Region: strings.Repeat("x", 64), ProviderID: "openstack:///a b"}, want: [3]string{},
			warns: []string{`zone: "nova zone" is nothing`, "region: ", `providerID: "openstack:///a b"`}},
		{name: "provider IDs of others", metadata: Metadata{ProviderID: "azure:///subscriptions/S/resourceGroups/g_(1)/providers/Microsoft.Compute/virtualMachines/vm"},
			want: [3]string{"", "", "azure:///subscriptions/S/resourceGroups/g_(1)/providers/Microsoft.Compute/virtualMachines/vm"}},
	}
	for _, tt := range tests {
		warnings := tt.metadata.Fill(&tt.node)
		if have := [3]string{tt.node.Zone, tt.node.Region, tt.node.ProviderID}; have != tt.want {
			t.Errorf("%s: have %q", tt.name, have)
		}
		if len(warnings) != len(tt.warns) {
			t.Errorf("%s: warned %q", tt.name, warnings)
			continue
		}
		for i, want := range tt.warns {
			if !strings.Contains(warnings[i], want) {
				t.Errorf("%s: warned %q; want %q", tt.name, warnings[i], want)
			}
		}
	}
}
