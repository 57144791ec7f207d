package authority

import (
	"crypto"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/cluster"
)

// Kubeconfig says how a person reaches a cluster.
type Kubeconfig struct {
	// Cluster is the cluster's name.
	Cluster string
	// Server is the API's URL, as in https://10.0.0.10:6443.
	Server string
	// User is the name that the API sees, in Groups.
	User   string
	Groups []string
}

// Render makes a client certificate and returns the kubeconfig with it. The result is a secret: keep it at mode 0600.
func (k Kubeconfig) Render(s Set) ([]byte, error) {
	client, err := s.Client(k.User, k.Groups)
	if err != nil {
		return nil, err
	}
	name := k.User + "@" + k.Cluster
	config := kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: []namedCluster{{Name: k.Cluster, Cluster: clusterEntry{Server: k.Server, Authority: []byte(s.Certificate())}}},
		Contexts: []namedContext{{Name: name, Context: contextEntry{Cluster: k.Cluster, User: k.User}}},
		Users: []namedUser{{Name: k.User, User: userEntry{
			Certificate: []byte(client.Certificate), Key: []byte(client.Key.Reveal()),
		}}},
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("rendering the kubeconfig: %w", err)
	}
	return text, nil
}

// Stands tells whether a kubeconfig that was rendered before still serves a cluster's administrator at the time for which s
// was opened: its certificate is of this authority and valid. Which server it names does not count.
func (k Kubeconfig) Stands(text []byte, s Set) bool {
	var config kubeconfig
	if err := yaml.Unmarshal(text, &config); err != nil || len(config.Clusters) != 1 || len(config.Users) != 1 {
		return false
	}
	entry, user := config.Clusters[0], config.Users[0]
	certificate, err := cluster.ParseCertificate(string(user.User.Certificate))
	if err != nil || entry.Name != k.Cluster || string(entry.Cluster.Authority) != s.Certificate() {
		return false
	}
	key, err := cluster.ParsePrivateKey(string(user.User.Key))
	if err != nil || s.made.After(certificate.NotAfter) || certificate.CheckSignatureFrom(s.cluster.certificate) != nil {
		return false
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(certificate.PublicKey)
}

// The part of client-go's Config (tools/clientcmd/api/v1) that is needed here. Bytes become base64.
type kubeconfig struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	Clusters       []namedCluster `json:"clusters"`
	Contexts       []namedContext `json:"contexts"`
	CurrentContext string         `json:"current-context"`
	Users          []namedUser    `json:"users"`
}

type namedCluster struct {
	Name    string       `json:"name"`
	Cluster clusterEntry `json:"cluster"`
}

type clusterEntry struct {
	Server    string `json:"server"`
	Authority []byte `json:"certificate-authority-data"`
}

type namedContext struct {
	Name    string       `json:"name"`
	Context contextEntry `json:"context"`
}

type contextEntry struct {
	Cluster string `json:"cluster"`
	User    string `json:"user"`
}

type namedUser struct {
	Name string    `json:"name"`
	User userEntry `json:"user"`
}

type userEntry struct {
	Certificate []byte `json:"client-certificate-data"`
	Key         []byte `json:"client-key-data"`
}
