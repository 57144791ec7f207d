package source

import (
	"context"
	"strings"
)

// hetzner asks Hetzner Cloud's metadata service (docs.hetzner.cloud, "Server Metadata").
func (m Machine) hetzner() Source {
	const version = "/hetzner/v1"
	s := m.service("Hetzner metadata service")
	return Source{Name: s.name, Find: func(ctx context.Context) (Found, error) {
		return s.userData(ctx, version+"/userdata", encodedUserData)
	}, Metadata: func(ctx context.Context) (Metadata, error) {
		var metadata Metadata
		err := s.fields(ctx, map[string]*string{
			version + "/metadata/instance-id": &metadata.InstanceID, version + "/metadata/hostname": &metadata.Hostname,
			version + "/metadata/availability-zone": &metadata.Zone,
		})
		if err != nil {
			return Metadata{}, err
		}
		// hcloud-cloud-controller-manager takes the location for the region, fsn1 of the zone fsn1-dc14; what the service calls
		// region is a network zone, as in eu-central. The provider ID is the same program's.
		metadata.Region, _, _ = strings.Cut(metadata.Zone, "-")
		metadata.Hostname = hostname(metadata.Hostname)
		if metadata.InstanceID != "" {
			metadata.ProviderID = "hcloud://" + metadata.InstanceID
		}
		return metadata, nil
	}}
}
