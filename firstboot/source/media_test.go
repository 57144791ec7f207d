package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/nodefs"
)

func TestMediaMetadataAndAzuresCD(t *testing.T) {
	const environment = `<?xml version="1.0" encoding="utf-8"?><Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:wa="http://schemas.microsoft.com/windowsazure">
		<wa:ProvisioningSection><wa:Version>1.0</wa:Version><LinuxProvisioningConfigurationSet xmlns="http://schemas.microsoft.com/windowsazure">
		<HostName>n1</HostName><CustomData>%s</CustomData></LinuxProvisioningConfigurationSet></wa:ProvisioningSection></Environment>`
	tests := []struct {
		name    string
		source  func(Machine) Source
		files   map[string]string
		want    string
		meta    Metadata
		wantErr string
	}{
		{name: "config drive", source: Machine.configDrive, want: identity, meta: Metadata{Hostname: "vm1", InstanceID: "u1", Zone: "az1", ProviderID: "openstack:///u1"}, files: map[string]string{
			"/dev/disk/by-label/config-2": "", "/medium/openstack/latest/user_data": identity, "/medium/openstack/latest/meta_data.json": `{"uuid":"u1","hostname":"vm1","availability_zone":"az1"}`}},
		{name: "config drive with broken metadata", source: Machine.configDrive, wantErr: "config drive (config-2), meta_data.json: reading OpenStack's meta_data.json: unexpected end", files: map[string]string{
			"/dev/disk/by-label/config-2": "", "/medium/openstack/latest/user_data": identity, "/medium/openstack/latest/meta_data.json": `{`}},
		{name: "NoCloud", source: Machine.noCloudMedium, want: identity, meta: Metadata{Hostname: "vm1", InstanceID: "i1"}, files: map[string]string{
			"/dev/disk/by-label/cidata": "", "/medium/user-data": identity, "/medium/meta-data": "instance-id: i1\nlocal-hostname: vm1\n"}},
		{name: "Azure", source: Machine.azureMedium, want: identity, files: map[string]string{"/dev/sr0": "", "/medium/ovf-env.xml": fmt.Sprintf(environment, base(identity))}},
		{name: "Azure without custom data", source: Machine.azureMedium, wantErr: "nothing here: the machine was given no custom data",
			files: map[string]string{"/dev/sr0": "", "/medium/ovf-env.xml": fmt.Sprintf(environment, "")}},
		{name: "another CD", source: Machine.azureMedium, wantErr: "nothing here: it holds no ovf-env.xml", files: map[string]string{"/dev/sr0": "", "/medium/README": ""}},
		{name: "no device", source: Machine.azureMedium, wantErr: "nothing here, yet: there is no CD in /dev/sr0 or /dev/sr1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range tt.files {
				write(t, filepath.Join(root, path), text)
			}
			done := 0
			found, err := tt.source(Machine{Root: nodefs.Root(root), Mount: func(string) (string, func(), error) {
				return filepath.Join(root, "medium"), func() { done++ }, nil
			}}).Find(t.Context())
			if _, mounted := os.Stat(filepath.Join(root, "medium")); mounted == nil && done != 1 {
				t.Errorf("unmounted %d times", done)
			}
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("have %v; want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || string(found.Text) != tt.want || found.Metadata != tt.meta {
				t.Errorf("have %q, %+v, %v", found.Text, found.Metadata, err)
			}
		})
	}
}
