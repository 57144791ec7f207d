package source

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// azure asks Azure's instance metadata service for the machine's userData (learn.microsoft.com, "Azure Instance Metadata
// Service"), which is base64.
func (m Machine) azure() Source {
	const query = "?api-version=2021-02-01&format="
	s := m.service("Azure metadata service")
	s.header = func(context.Context) (http.Header, error) { return http.Header{"Metadata": {"true"}}, nil }
	return Source{Name: s.name, Find: func(ctx context.Context) (Found, error) {
		return s.userData(ctx, "/metadata/instance/compute/userData"+query+"text", encodedUserData)
	}, Metadata: func(ctx context.Context) (Metadata, error) {
		text, err := s.get(ctx, "/metadata/instance/compute"+query+"json")
		if err != nil {
			return Metadata{}, err
		}
		return parseAzure(text)
	}}
}

// azureGroup is the resource group in a resource's path.
var azureGroup = regexp.MustCompile(`(?i)/resourceGroups/[^/]+`)

// parseAzure reads the service's compute document.
func parseAzure(text []byte) (Metadata, error) {
	var about struct {
		Name       string `json:"name"`
		Location   string `json:"location"`
		Zone       string `json:"zone"`
		VMID       string `json:"vmId"`
		ResourceID string `json:"resourceId"`
		OSProfile  struct {
			ComputerName string `json:"computerName"`
		} `json:"osProfile"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return Metadata{}, fmt.Errorf("reading Azure's metadata: %w", err)
	}
	m := Metadata{InstanceID: about.VMID, Region: strings.ToLower(about.Location), Hostname: hostname(about.OSProfile.ComputerName)}
	if m.Hostname == "" {
		m.Hostname = hostname(about.Name)
	}
	// Zone and provider ID as cloud-provider-azure has them (pkg/provider/azure_zones.go, azure_instances.go): the zone with
	// the region before it, the resource group in lower case.
	if about.Zone != "" {
		m.Zone = m.Region + "-" + about.Zone
	}
	if about.ResourceID != "" {
		m.ProviderID = "azure://" + azureGroup.ReplaceAllStringFunc(about.ResourceID, func(group string) string {
			return "/resourceGroups/" + strings.ToLower(group[len("/resourceGroups/"):])
		})
	}
	return m, nil
}

// azureMedium reads the virtual CD of a new machine: ovf-env.xml with the machine's custom data, which is base64.
func (m Machine) azureMedium() Source {
	const name = "Azure provisioning CD"
	return m.medium(medium{name: name, what: "CD in /dev/sr0 or /dev/sr1", devices: []string{"/dev/sr0", "/dev/sr1"}, read: func(directory string) (Found, error) {
		text, file, err := readAny(directory, "ovf-env.xml", "OVF-ENV.XML")
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Found{}, nothing("it holds no ovf-env.xml")
		case err != nil:
			return Found{}, err
		}
		var about struct {
			CustomData string `xml:"ProvisioningSection>LinuxProvisioningConfigurationSet>CustomData"`
		}
		if err := xml.Unmarshal(text, &about); err != nil {
			return Found{}, document.Problem{File: name + ", " + file, Text: "is not XML; make the machine anew"}
		}
		if strings.TrimSpace(about.CustomData) == "" {
			return Found{}, nothing("the machine was given no custom data")
		}
		return encodedUserData.read(name+", custom data", []byte(about.CustomData))
	}})
}
