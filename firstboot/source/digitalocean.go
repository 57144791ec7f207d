package source

import (
	"context"
)

// digitalOcean asks DigitalOcean's metadata service (docs.digitalocean.com/reference/api/metadata).
func (m Machine) digitalOcean() Source {
	const version = "/metadata/v1"
	s := m.service("DigitalOcean metadata service")
	return Source{Name: s.name, Find: func(ctx context.Context) (Found, error) {
		return s.userData(ctx, version+"/user-data", encodedUserData)
	}, Metadata: func(ctx context.Context) (Metadata, error) {
		var metadata Metadata
		err := s.fields(ctx, map[string]*string{
			version + "/id": &metadata.InstanceID, version + "/hostname": &metadata.Hostname, version + "/region": &metadata.Region,
		})
		if err != nil {
			return Metadata{}, err
		}
		metadata.Hostname = hostname(metadata.Hostname)
		if metadata.InstanceID != "" {
			// digitalocean-cloud-controller-manager, droplets.go. There are no zones.
			metadata.ProviderID = "digitalocean://" + metadata.InstanceID
		}
		return metadata, nil
	}}
}
