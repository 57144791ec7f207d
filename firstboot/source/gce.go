package source

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
)

// gce asks Google's metadata service (cloud.google.com/compute/docs/metadata). The identity is the instance's attribute
// user-data, in base64 when user-data-encoding says so.
func (m Machine) gce() Source {
	s := m.service("GCE metadata service")
	s.flavor = "Metadata-Flavor: Google"
	s.header = func(context.Context) (http.Header, error) { return http.Header{"Metadata-Flavor": {"Google"}}, nil }
	const instance, attributes = "/computeMetadata/v1/instance", "/computeMetadata/v1/instance/attributes"
	return Source{Name: s.name, Find: func(ctx context.Context) (Found, error) {
		text, err := s.get(ctx, attributes+"/user-data")
		if err != nil {
			return Found{}, err
		}
		encoding, err := s.field(ctx, attributes+"/user-data-encoding")
		if err != nil {
			return Found{}, err
		}
		if encoding == "base64" {
			return s.found(text, encodedUserData)
		}
		return s.found(text, userData)
	}, Metadata: func(ctx context.Context) (Metadata, error) {
		var metadata Metadata
		var name, project string
		err := s.fields(ctx, map[string]*string{
			instance + "/id": &metadata.InstanceID, instance + "/hostname": &metadata.Hostname, instance + "/zone": &metadata.Zone,
			instance + "/name": &name, "/computeMetadata/v1/project/project-id": &project,
		})
		if err != nil {
			return Metadata{}, err
		}
		// The zone is projects/NUMBER/zones/europe-west1-b.
		if metadata.Zone = path.Base(metadata.Zone); metadata.Zone == "." {
			return Metadata{}, errors.New("the service names no zone")
		}
		metadata.Region = metadata.Zone
		if i := strings.LastIndex(metadata.Zone, "-"); i > 0 {
			metadata.Region = metadata.Zone[:i]
		}
		metadata.Hostname = hostname(metadata.Hostname)
		if project != "" && name != "" {
			// cloud-provider-gcp, providers/gce/gce_instances.go.
			metadata.ProviderID = "gce://" + project + "/" + metadata.Zone + "/" + name
		}
		return metadata, nil
	}}
}
