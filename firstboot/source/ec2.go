package source

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// ec2Version is an old version of the service's paths, which every region has.
const ec2Version = "/2019-10-01"

// ec2 asks EC2's instance metadata service, version 2: with a token that a PUT gets (docs.aws.amazon.com, "Use the Instance
// Metadata Service"). Version 1 answers whoever can make the machine send a GET, and is not used.
func (m Machine) ec2() Source {
	token := m.service("EC2 metadata service")
	token.header = func(context.Context) (http.Header, error) {
		return http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"300"}}, nil
	}
	s := m.service(token.name)
	s.header = func(ctx context.Context) (http.Header, error) {
		text, err := token.ask(ctx, http.MethodPut, "/latest/api/token")
		if err != nil {
			return nil, err
		}
		return http.Header{"X-Aws-Ec2-Metadata-Token": {string(text)}}, nil
	}
	return Source{Name: s.name, Find: func(ctx context.Context) (Found, error) {
		return s.userData(ctx, ec2Version+"/user-data", userData)
	}, Metadata: func(ctx context.Context) (Metadata, error) {
		text, err := s.get(ctx, ec2Version+"/dynamic/instance-identity/document")
		if err != nil {
			return Metadata{}, err
		}
		metadata, err := parseEC2(text)
		if err != nil {
			return Metadata{}, err
		}
		name, err := s.field(ctx, ec2Version+"/meta-data/local-hostname")
		metadata.Hostname = hostname(name)
		return metadata, err
	}}
}

// parseEC2 reads the instance identity document.
func parseEC2(text []byte) (Metadata, error) {
	var about struct {
		InstanceID       string `json:"instanceId"`
		AvailabilityZone string `json:"availabilityZone"`
		Region           string `json:"region"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return Metadata{}, fmt.Errorf("reading EC2's instance identity document: %w", err)
	}
	m := Metadata{InstanceID: about.InstanceID, Zone: about.AvailabilityZone, Region: about.Region}
	if about.InstanceID != "" {
		// cloud-provider-aws, pkg/providers/v1/instances.go.
		m.ProviderID = "aws:///" + about.AvailabilityZone + "/" + about.InstanceID
	}
	return m, nil
}
