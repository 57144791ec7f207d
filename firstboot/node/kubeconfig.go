package node

import (
	"encoding/base64"
	"errors"
	"fmt"

	"sigs.k8s.io/yaml"
)

// credentials are what a kubeconfig holds, as PEM.
type credentials struct{ authority, certificate, key []byte }

// parseKubeconfig reads a kubeconfig as kubeadm writes it: one cluster and one user, with everything inline. Its errors
// quote nothing: the file holds a key.
func parseKubeconfig(text []byte) (credentials, error) {
	var file struct {
		Clusters []struct {
			Cluster struct {
				Authority string `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Certificate string `json:"client-certificate-data"`
				Key         string `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if yaml.Unmarshal(text, &file) != nil {
		return credentials{}, errors.New("it is not YAML of the right shape")
	}
	if len(file.Clusters) != 1 || len(file.Users) != 1 {
		return credentials{}, fmt.Errorf("it has %d clusters and %d users; want one of each", len(file.Clusters), len(file.Users))
	}
	var c credentials
	for field, text := range map[*[]byte]string{
		&c.authority:   file.Clusters[0].Cluster.Authority,
		&c.certificate: file.Users[0].User.Certificate,
		&c.key:         file.Users[0].User.Key,
	} {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) == 0 {
			return credentials{}, errors.New("it lacks certificate-authority-data, client-certificate-data or client-key-data")
		}
		*field = raw
	}
	return c, nil
}
