package endpoint

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"sigs.k8s.io/yaml"
)

// What is read, in the order in which it is read. signaturePrefix and a token's id are the key of the signature that
// kubeadm join verifies (cluster-bootstrap, token/api).
const (
	pathClusterInfo   = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
	pathKubeadmConfig = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
	pathNodes         = "/api/v1/nodes/"
	signaturePrefix   = "jws-kubeconfig-"
)

type configMap struct {
	Data map[string]string `json:"data"`
}

// tokenID is the public half of the token.
func (s *session) tokenID() string {
	id, _, _ := strings.Cut(s.Token.Reveal(), ".")
	return id
}

// clusterInfo reads what the cluster tells everybody. kubeadm init writes it near its end, and then lets it be read.
func (s *session) clusterInfo(ctx context.Context) (map[string]string, *Problem) {
	a, problem := s.get(ctx, pathClusterInfo, "")
	switch {
	case problem != nil:
		return nil, problem
	case a.code == http.StatusNotFound:
		return nil, trouble(NotFounded, "waiting for the first control plane to finish", "the API server behind %s works, and the cluster is being founded", s.Endpoint)
	case a.code == http.StatusForbidden:
		return nil, trouble(NotReady, "waiting for the first control plane to finish", "the API server behind %s does not show cluster-info yet", s.Endpoint)
	case a.code == http.StatusUnauthorized:
		return nil, trouble(NotReady, "joining needs anonymous reading of cluster-info: take anonymous-auth=false out of the API server's arguments",
			"the API server behind %s answers nobody without credentials", s.Endpoint)
	}
	return s.configMap(a, "cluster-info")
}

// version reads kubeadm-config with the token and takes the cluster's version from it.
func (s *session) version(ctx context.Context) (string, *Problem) {
	a, problem := s.get(ctx, pathKubeadmConfig, s.Token.Reveal())
	switch {
	case problem != nil:
		return "", problem
	case a.code == http.StatusUnauthorized:
		return "", s.tokenRefused(ctx, a.date)
	case a.code == http.StatusForbidden:
		return "", trouble(NotReady, "waiting; if it stays so, the token lacks the group system:bootstrappers:kubeadm:default-node-token: make one with `kiln cluster token`",
			"the token %s may not read kubeadm-config", s.tokenID())
	case a.code == http.StatusNotFound:
		return "", trouble(NotFounded, "waiting for it", "the cluster at %s has no kubeadm-config yet", s.Endpoint)
	}
	data, problem := s.configMap(a, "kubeadm-config")
	if problem != nil {
		return "", problem
	}
	var config struct {
		Version string `json:"kubernetesVersion"`
	}
	if yaml.Unmarshal([]byte(data["ClusterConfiguration"]), &config) != nil || config.Version == "" {
		return "", s.strange("kubeadm-config")
	}
	return config.Version, nil
}

func (s *session) configMap(a answer, name string) (map[string]string, *Problem) {
	var object configMap
	if a.code != http.StatusOK || json.Unmarshal(a.body, &object) != nil || object.Data == nil {
		return nil, s.strange(name)
	}
	return object.Data, nil
}

// strange is an answer that no API server gives when it is well. One that was cut short looks the same.
func (s *session) strange(name string) *Problem {
	return trouble(NotReady, "asking again", "the answer of %s about %s cannot be read", s.Endpoint, name)
}

// Node is what there is to know of the Node that has this node's name.
type Node struct {
	Name string
	// Ready says that its kubelet reports.
	Ready bool
	// Ours says that it is this very installation: it has registered before.
	Ours bool
	// MachineID and UUID are those of its machine, Address is its internal address; each may be empty.
	MachineID, UUID, Address string
}

// node reads the Node of this node's own name; there may be none.
func (s *session) node(ctx context.Context) (*Node, *Problem) {
	a, problem := s.get(ctx, pathNodes+url.PathEscape(s.Node), s.Token.Reveal())
	switch {
	case problem != nil:
		return nil, problem
	case a.code == http.StatusNotFound:
		return nil, nil
	case a.code == http.StatusUnauthorized:
		return nil, s.tokenRefused(ctx, a.date)
	case a.code == http.StatusForbidden:
		return nil, trouble(NotReady, "waiting for the first control plane to finish", "the token %s may not read Nodes yet", s.tokenID())
	}
	var object struct {
		Status struct {
			Addresses  []struct{ Type, Address string }
			Conditions []struct{ Type, Status string }
			NodeInfo   struct{ MachineID, SystemUUID string }
		}
	}
	if a.code != http.StatusOK || json.Unmarshal(a.body, &object) != nil {
		return nil, s.strange("the Node " + s.Node)
	}
	n := &Node{Name: s.Node, MachineID: object.Status.NodeInfo.MachineID, UUID: object.Status.NodeInfo.SystemUUID}
	for _, condition := range object.Status.Conditions {
		n.Ready = n.Ready || condition.Type == "Ready" && condition.Status == "True"
	}
	for _, address := range object.Status.Addresses {
		if address.Type == "InternalIP" && n.Address == "" {
			n.Address = address.Address
		}
	}
	n.Ours = s.Machine.is(n.MachineID, n.UUID)
	return n, nil
}

// is goes by the machine's ID, which an installation keeps for its life; the UUID outlives it, and some firmware has the
// same one everywhere.
func (m Machine) is(id, uuid string) bool {
	if m.ID != "" && id != "" {
		return strings.EqualFold(m.ID, id)
	}
	return m.UUID != "" && strings.EqualFold(m.UUID, uuid)
}
