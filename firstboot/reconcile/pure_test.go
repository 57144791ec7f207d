package reconcile

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
)

func TestFits(t *testing.T) {
	tests := []struct {
		name, pattern, pool, role string
		want                      bool
	}{
		{"w1", "w1", "", "worker", true},
		{"w2", "w1", "", "worker", false},
		{"", "", "", "worker", false},
		{"w1", "", "", "worker", false},
		// A single node's name is no pattern.
		{"w1", "${hostname}", "", "worker", false},
		{"anything-1", "${hostname}", "p", "worker", true},
		{"anything-1", "", "p", "worker", true},
		{"worker-abc", "worker-${serial}", "p", "worker", true},
		{"worker-525400123456", "worker-${mac}", "p", "worker", true},
		{"worker-4c4c4544-0042-3510-8052-b3c04f4b4e32", "worker-${uuid}", "p", "worker", true},
		{"worker-", "worker-${serial}", "p", "worker", false},
		{"aworker-1", "worker-${serial}", "p", "worker", false},
		{"worker-a.b", "worker-${serial}", "p", "worker", false},
		{"worker-A", "worker-${serial}", "p", "worker", false},
		{"r1-abc-x", "r1-${serial}-x", "p", "worker", true},
		{"r1-abc-y", "r1-${serial}-x", "p", "worker", false},
		{"a-b-c", "${hostname}-${serial}", "p", "worker", true},
		// What means something in a regular expression means nothing here.
		{"wxrk", "w.rk", "p", "worker", false},
		{"w1", "${other}", "p", "worker", false},
		{strings.Repeat("a", 64), "${hostname}", "p", "worker", false},
		// Control planes are known one by one.
		{"cp4", "${hostname}", "p", "control-plane", false},
	}
	for _, tt := range tests {
		if got := fits(tt.name, cluster.Statement{Node: tt.pattern, Pool: tt.pool, Role: tt.role}); got != tt.want {
			t.Errorf("%q for %q in pool %q: have %v", tt.name, tt.pattern, tt.pool, got)
		}
	}
}

func TestGranted(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	v := verifier{cluster: "demo", authorities: []*x509.Certificate{theirs.certificate, ours.certificate}}
	good := cluster.Statement{Cluster: "demo", Node: "w1", Role: "worker", Labels: map[string]string{
		"node-restriction.kubernetes.io/tier": "secure", "example.org/rack": "r7", "topology.kubernetes.io/zone": "a",
		"node-role.kubernetes.io/control-plane": ""}}
	with := func(change func(*cluster.Statement)) cluster.Statement {
		s := good
		change(&s)
		return s
	}
	tests := []struct {
		name, text string
		// want are the labels, or problem a part of the error.
		want, problem string
	}{
		{"good", ours.sign(t, good), "node-restriction.kubernetes.io/tier=secure, node-role.kubernetes.io/worker=", ""},
		{"while authorities change", theirs.sign(t, good), "node-restriction.kubernetes.io/tier=secure, node-role.kubernetes.io/worker=", ""},
		{"control plane", ours.sign(t, with(func(s *cluster.Statement) { s.Role, s.Labels = "control-plane", nil })), "node-role.kubernetes.io/control-plane=", ""},
		{"another's signature", newAuthority(t).sign(t, good), "", "has not signed it"},
		{"no statement", "abc", "", "not two parts"},
		{"changed", "e30" + ours.sign(t, good)[3:], "", "has not signed it"},
		{"another cluster", ours.sign(t, with(func(s *cluster.Statement) { s.Cluster = "other" })), "", `about the cluster "other"`},
		{"another node", ours.sign(t, with(func(s *cluster.Statement) { s.Node = "w2" })), "", `about nodes called "w2"`},
		{"another role", ours.sign(t, with(func(s *cluster.Statement) { s.Role = "king" })), "", `role "king"`},
	}
	for _, tt := range tests {
		labels, err := v.granted("w1", tt.text)
		if tt.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tt.problem) || len(labels) > 0 {
				t.Errorf("%s: have %v, %v", tt.name, labels, err)
			}
			continue
		}
		if got := describe(labels); err != nil || got != tt.want {
			t.Errorf("%s: have %q, %v", tt.name, got, err)
		}
	}
	if _, err := (verifier{cluster: "demo"}).granted("w1", ours.sign(t, good)); err == nil {
		t.Error("a statement counts without an authority")
	}
}

func TestMarks(t *testing.T) {
	tests := []struct{ annotation, systemUUID, want string }{
		{`{"macs":["52:54:00:12:34:56","52-54-00-AB-CD-EF"],"uuid":"4C4C4544-0042-3510-8052-B3C04F4B4E32"}`, "4c4c4544-0042-3510-8052-b3c04f4b4e32",
			"MAC address 52:54:00:12:34:56, MAC address 52:54:00:ab:cd:ef, product UUID 4c4c4544-0042-3510-8052-b3c04f4b4e32"},
		{"", "4c4c4544-0042-3510-8052-b3c04f4b4e32", "product UUID 4c4c4544-0042-3510-8052-b3c04f4b4e32"},
		{`{"uuid":"03000200-0400-0500-0006-000700080009"}`, "00000000-0000-0000-0000-000000000000", ""},
		{`{"uuid":"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"}`, "Not Settable", ""},
		{`{"macs":["00:00:00:00:00:00","ff:ff:ff:ff:ff:ff","01:00:5e:00:00:01","be:3a:f2:b6:05:9f","52:54","00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01"]}`, "", ""},
		{`not JSON`, "", ""},
		{`{"macs":"52:54:00:12:34:56"}`, "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		if got := strings.Join(marks(tt.annotation, tt.systemUUID), ", "); got != tt.want {
			t.Errorf("%s, %s: have %q", tt.annotation, tt.systemUUID, got)
		}
	}
}

func TestDuplicates(t *testing.T) {
	many := map[string][]string{}
	for i := range 12 {
		many[fmt.Sprintf("n%02d", i)] = []string{"product UUID x"}
	}
	tests := []struct {
		name   string
		marked map[string][]string
		want   map[string]string
	}{
		{"none", map[string][]string{"a": {"MAC address 1"}, "b": {"MAC address 2"}, "c": nil}, map[string]string{}},
		{"a MAC", map[string][]string{"a": {"MAC address 1", "product UUID x"}, "b": {"MAC address 1"}, "c": {"product UUID y"}},
			map[string]string{"a": "MAC address 1 is also that of b", "b": "MAC address 1 is also that of a"}},
		{"both, three", map[string][]string{"a": {"MAC address 1", "product UUID x"}, "b": {"MAC address 1", "product UUID x"}, "c": {"product UUID x"}},
			map[string]string{"a": "MAC address 1 is also that of b; product UUID x is also that of b, c",
				"b": "MAC address 1 is also that of a; product UUID x is also that of a, c", "c": "product UUID x is also that of a, b"}},
	}
	for _, tt := range tests {
		if got := duplicates(tt.marked); !maps.Equal(got, tt.want) {
			t.Errorf("%s: have %v", tt.name, got)
		}
	}
	const first = "product UUID x is also that of n01, n02, n03, n04, n05, n06, n07, n08 and 3 more nodes"
	if got := duplicates(many); len(got) != 12 || got["n00"] != first {
		t.Errorf("have %v", got)
	}
	if names := slices.Sorted(maps.Keys(duplicates(many))); len(names) != 12 {
		t.Errorf("have %v", names)
	}
}
