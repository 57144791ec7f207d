package apitest

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/profile"
)

const (
	masters       = "system:masters"
	kubeletPrefix = "system:node:"
)

// forbidden says why the client may not do what it asks for: administrators may do everything, kubelets what the Node
// authorizer and the NodeRestriction admission plugin let them.
func (s *Server) forbidden(r *http.Request, body Object) string {
	subject := r.TLS.PeerCertificates[0].Subject
	if slices.Contains(subject.Organization, masters) {
		return ""
	}
	name, kubelet := strings.CutPrefix(subject.CommonName, kubeletPrefix)
	path := strings.TrimSuffix(r.URL.Path, "/status")
	rest, isNode := strings.CutPrefix(path, "/api/v1/nodes/")
	switch {
	case !kubelet:
		return fmt.Sprintf("user %q is nobody here", subject.CommonName)
	case r.Method == http.MethodGet, r.Method == http.MethodPost && strings.HasSuffix(path, "/events"):
		return ""
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/eviction"):
		if spec, _ := s.objects[strings.TrimSuffix(path, "/eviction")]["spec"].(map[string]any); spec != nil && spec["nodeName"] != name {
			return fmt.Sprintf("node %s can only evict pods with spec.nodeName set to itself", name)
		}
		return ""
	case !isNode || r.Method != http.MethodPatch:
		return fmt.Sprintf("User %q cannot %s %s", subject.CommonName, strings.ToLower(r.Method), path)
	case rest != name:
		return fmt.Sprintf("node %q is not allowed to modify node %q", name, rest)
	}
	return s.restricted(name, s.objects[path], body)
}

// restricted is admitNode of the NodeRestriction plugin, for an update.
func (s *Server) restricted(name string, object, body Object) string {
	labels, _ := metadata(body)["labels"].(map[string]any)
	have, _ := metadata(object)["labels"].(map[string]any)
	for key, value := range labels {
		if have[key] != value && !profile.KubeletMaySet(key) {
			return "is not allowed to modify labels: " + key
		}
	}
	spec, _ := body["spec"].(map[string]any)
	old, _ := object["spec"].(map[string]any)
	if taints, given := spec["taints"]; given && !reflect.DeepEqual(taints, old["taints"]) {
		return fmt.Sprintf("node %q is not allowed to modify taints", name)
	}
	return ""
}

// invalid says what the API server would find wrong with a merge patch of a Node.
func invalid(object, body Object) string {
	labels, _ := metadata(body)["labels"].(map[string]any)
	for key, value := range labels {
		if text, ok := value.(string); !ok || strings.ContainsAny(text, " /") {
			return fmt.Sprintf("metadata.labels: Invalid value: %q: a valid label must consist of alphanumeric characters (%s)", value, key)
		}
	}
	spec, _ := body["spec"].(map[string]any)
	old, _ := object["spec"].(map[string]any)
	if id, given := spec["providerID"]; given && old["providerID"] != nil && old["providerID"] != "" && old["providerID"] != id {
		return "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"
	}
	return ""
}
