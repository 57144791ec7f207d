package source

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// tool stands for vmware-rpctool.
type tool map[string]string

func (t tool) Run(_ context.Context, c command.Command) (command.Usage, error) {
	key, asks := strings.CutPrefix(strings.Join(c.Args, " "), "info-get ")
	if c.Name != nodefs.GuestInfoTool || !asks {
		return command.Usage{}, fmt.Errorf("unexpected command %s %q", c.Name, c.Args)
	}
	text, ok := t[key]
	if !ok {
		return command.Usage{}, &command.ExitError{Name: c.Name, Code: 1, Tail: "Fail: No value found"}
	}
	fmt.Fprintln(c.Stdout, text)
	return command.Usage{}, nil
}

func TestGuestInfo(t *testing.T) {
	const environment = `<?xml version="1.0"?><Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1">
		<PropertySection><Property oe:key="guestinfo.kiln.identity" oe:value="%s"/></PropertySection></Environment>`
	tests := []struct {
		name         string
		values       tool
		want         string
		wantErr      string
		wantMetadata Metadata
	}{
		{name: "plain, with metadata", values: tool{"guestinfo.kiln.identity": identity, "guestinfo.metadata": base("instance-id: i1\nlocal-hostname: Node7\n"), "guestinfo.metadata.encoding": "base64"},
			want: identity, wantMetadata: Metadata{Hostname: "node7", InstanceID: "i1"}},
		{name: "Ignition, packed", values: tool{"guestinfo.ignition.config.data": base(zipped(t, config)), "guestinfo.ignition.config.data.encoding": "gzip+base64"}, want: "from-config"},
		{name: "property of a vApp", values: tool{"guestinfo.ovfEnv": fmt.Sprintf(environment, base(identity)), "guestinfo.kiln.identity.encoding": "base64"}, want: identity},
		{name: "none", values: tool{"guestinfo.userdata": "---"}, wantErr: "nothing here: the machine was given none of guestinfo.kiln.identity"},
		{name: "two that differ", values: tool{"guestinfo.kiln.identity": identity, "guestinfo.ignition.config.data": config},
			wantErr: "VMware guestinfo, guestinfo.ignition.config.data: has another identity"},
		{name: "two that agree", values: tool{"guestinfo.kiln.identity": "from-config", "guestinfo.ignition.config.data": config}, want: "from-config"},
		{name: "unknown encoding", values: tool{"guestinfo.userdata": identity, "guestinfo.userdata.encoding": "rot13"}, wantErr: `guestinfo.userdata.encoding: unknown "rot13"`},
		{name: "broken environment", values: tool{"guestinfo.ovfEnv": "<a"}, wantErr: "guestinfo.ovfEnv: is not XML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := Machine{Runner: tt.values}.guestInfo().Find(t.Context())
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("have %v; want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || strings.TrimSpace(string(found.Text)) != strings.TrimSpace(tt.want) || found.Metadata != tt.wantMetadata {
				t.Errorf("have %q, %+v, %v", found.Text, found.Metadata, err)
			}
		})
	}
	m := Machine{Runner: tool{"guestinfo.userdata": identity}, Facts: func() Facts { return Facts{Serial: "VMware-42 1c 2d aa 00 11 22 33-44 55 66 77 88 99 aa bb"} }}
	if found, err := m.guestInfo().Find(t.Context()); err != nil || found.Metadata.ProviderID != "vsphere://421c2daa-0011-2233-4455-66778899aabb" {
		t.Errorf("have %+v, %v", found.Metadata, err)
	}
}
