package source

import (
	"context"
	"encoding/json"
	"fmt"
)

// Where OpenStack keeps what a machine is given, on a config drive and at its metadata service alike.
const (
	openStackUserData = "openstack/latest/user_data"
	openStackMetadata = "openstack/latest/meta_data.json"
)

// openStack asks OpenStack's metadata service.
func (m Machine) openStack() Source {
	s := m.service("OpenStack metadata service")
	return Source{Name: s.name, Find: func(ctx context.Context) (Found, error) {
		return s.userData(ctx, "/"+openStackUserData, userData)
	}, Metadata: func(ctx context.Context) (Metadata, error) {
		text, err := s.get(ctx, "/"+openStackMetadata)
		if err != nil {
			return Metadata{}, err
		}
		return parseOpenStack(text)
	}}
}

// parseOpenStack reads meta_data.json. It names no region.
func parseOpenStack(text []byte) (Metadata, error) {
	var about struct {
		UUID             string `json:"uuid"`
		Hostname         string `json:"hostname"`
		AvailabilityZone string `json:"availability_zone"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return Metadata{}, fmt.Errorf("reading OpenStack's meta_data.json: %w", err)
	}
	m := Metadata{Hostname: hostname(about.Hostname), InstanceID: about.UUID, Zone: about.AvailabilityZone}
	if about.UUID != "" {
		// cloud-provider-openstack, pkg/openstack/instances.go: without a region of its own between the slashes.
		m.ProviderID = "openstack:///" + about.UUID
	}
	return m, nil
}
