package initramfs

import (
	"strings"
	"testing"
)

func TestParseLive(t *testing.T) {
	hash, pin := " roothash="+strings.Repeat("0123456789abcdef", 4), strings.Repeat("ab", 32)
	tests := []struct {
		name, text string
		kind       sourceKind
		url, state string
		links      int
		problems   []string
	}{
		{name: "http", text: "kiln.root=http://10.0.2.2:8080/a/root.img?x=1", kind: fromURL, url: "http://10.0.2.2:8080/a/root.img?x=1"},
		{name: "https", text: "kiln.root=https://s/root.img kiln.root.ca=" + pin, kind: fromURL, url: "https://s/root.img"},
		{name: "dhcp, state on a disk", text: "kiln.root=dhcp kiln.state=serial:S1,size:>=100GiB", kind: fromDHCP, state: "serial:S1,size:>=100GiB"},
		{name: "medium, state in memory", text: "kiln.root=medium kiln.state=memory", kind: fromMedium},
		{name: "a model with a space", text: `kiln.root=medium "kiln.state=model:SanDisk Ultra"`, kind: fromMedium, state: "model:SanDisk Ultra"},
		{name: "network", text: "kiln.root=http://s/root.img ip=vlan5:dhcp vlan=vlan5:eth0 nameserver=192.0.2.1", kind: fromURL, url: "http://s/root.img", links: 1},
		// A disk's node may have an ip= that is somebody else's.
		{name: "no network, no ip=", text: "ip=:::::eth0:magic"},
		{name: "wrong network", text: "kiln.root=dhcp ip=magic vlan=x", kind: fromDHCP, problems: []string{`ip=magic: "magic" is not known`, "vlan=x: want NAME:INTERFACE"}},
		{name: "tftp", text: "kiln.root=tftp://s/root.img", problems: []string{`kiln.root: "tftp://s/root.img" is no place of a root; want http://SERVER/PATH/root.img`}},
		{name: "another file", text: "kiln.root=http://s/a.iso", problems: []string{"is no place of a root"}},
		{name: "no server", text: "kiln.root=http:///root.img", problems: []string{"is no place of a root"}},
		{name: "https without a pin", text: "kiln.root=https://s/root.img", kind: fromURL, url: "https://s/root.img", problems: []string{"kiln.root.ca: missing; kiln.root is an https URL"}},
		{name: "no pin", text: "kiln.root=medium kiln.root.ca=abc", kind: fromMedium, problems: []string{`kiln.root.ca: "abc" is no SHA-256`}},
		{name: "state of a disk's node", text: "kiln.state=path:/dev/sda", state: "path:/dev/sda", problems: []string{"kiln.state: is for live boots, and there is no kiln.root"}},
		{name: "no rule", text: "kiln.root=medium kiln.state=first", kind: fromMedium, problems: []string{`kiln.state: "first" is no condition; want path:`, "or memory"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			have, err := ParseCmdline(tt.text + hash)
			if have.Root.kind != tt.kind || have.Root.url != tt.url || have.State.String() != tt.state || len(have.Network.Links) != tt.links {
				t.Errorf("have %+v", have)
			}
			if len(tt.problems) == 0 && err != nil {
				t.Error(err)
			}
			for _, problem := range tt.problems {
				if err == nil || !strings.Contains(err.Error(), problem) {
					t.Errorf("error %v does not say %q", err, problem)
				}
			}
		})
	}
}

func TestBeside(t *testing.T) {
	for from, want := range map[string]string{
		"http://s/a/b/kiln.efi":   "http://s/a/b/root.img",
		"https://s:8/k%20n/x?m=1": "https://s:8/k%20n/root.img?m=1",
		"http://s/":               "http://s/root.img",
	} {
		have, err := beside(from, "root.img")
		if err != nil || have != want {
			t.Errorf("%s: have %q, %v; want %q", from, have, err, want)
		}
	}
}
