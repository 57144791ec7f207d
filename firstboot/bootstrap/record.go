package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
)

// The cluster's public record: a ConfigMap that everybody may read, as kubeadm's cluster-info.
const (
	recordNamespace = "kube-public"
	recordName      = "kiln"
	recordRole      = "kiln-public"
	recordPath      = "/api/v1/namespaces/" + recordNamespace + "/configmaps/" + recordName
)

// record writes down in the cluster who founded it, with what, and which tokens it has. A machine that is to join learns
// from it why its token is refused, and a founder that lost its disk that its cluster lives.
func (p plan) record(ctx context.Context) (string, error) {
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return "", err
	}
	var current struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Data map[string]string `json:"data"`
	}
	if err := client.Read(ctx, recordPath, &current); err != nil && !node.HasCode(err, http.StatusNotFound) {
		return "", fmt.Errorf("reading the cluster's record: %w", err)
	}
	tokens := map[string]string{}
	if text := current.Data["tokens"]; text != "" && json.Unmarshal([]byte(text), &tokens) != nil {
		tokens = map[string]string{} // nobody can read it as it is
	}
	id, _, _ := strings.Cut(p.o.Identity.Bootstrap.Token.Reveal(), ".")
	if _, known := tokens[id]; !known {
		if tokens[id], err = p.tokenEnds(ctx, client, id); err != nil {
			return "", err
		}
	}
	objects, err := p.recordObjects(tokens, current.Metadata.ResourceVersion)
	if err != nil {
		return "", err
	}
	for _, object := range objects {
		if err := client.Apply(ctx, object); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s/%s, with %d tokens", recordNamespace, recordName, len(tokens)), nil
}

// tokenEnds is when the token with this public id expires (RFC 3339), as its Secret says; empty is never. A Secret that is
// gone has expired: the controllers remove it then.
func (p plan) tokenEnds(ctx context.Context, client *node.Client, id string) (string, error) {
	var secret struct {
		Data struct {
			Expiration []byte `json:"expiration"`
		} `json:"data"`
	}
	err := client.Read(ctx, "/api/v1/namespaces/kube-system/secrets/bootstrap-token-"+id, &secret)
	switch {
	case node.HasCode(err, http.StatusNotFound):
		return p.m.Now().UTC().Format(time.RFC3339), nil
	case err != nil:
		return "", fmt.Errorf("reading the token's end: %w", err)
	}
	return string(secret.Data.Expiration), nil
}

// recordObjects are the record, and what lets everybody read it. Tokens that somebody adds at the same time are not lost:
// the record is only replaced as it was read.
func (p plan) recordObjects(tokens map[string]string, version string) ([]node.Object, error) {
	text, err := json.Marshal(tokens)
	if err != nil {
		return nil, fmt.Errorf("writing the cluster's record: %w", err)
	}
	metadata := func(name string) map[string]any { return map[string]any{"name": name, "namespace": recordNamespace} }
	own := metadata(recordName)
	if version != "" {
		own["resourceVersion"] = version
	}
	const group = "rbac.authorization.k8s.io"
	everybody := []any{
		map[string]any{"apiGroup": group, "kind": "User", "name": "system:anonymous"},
		map[string]any{"apiGroup": group, "kind": "Group", "name": "system:unauthenticated"},
		map[string]any{"apiGroup": group, "kind": "Group", "name": "system:authenticated"},
	}
	return []node.Object{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": map[string]any{
			"founder": p.o.Identity.Node.Name, "release": p.o.Baked.Release, "kubernetes": p.o.Baked.Kubernetes, "tokens": string(text)}},
		{"apiVersion": group + "/v1", "kind": "Role", "metadata": metadata(recordRole), "rules": []any{map[string]any{
			"apiGroups": []any{""}, "resources": []any{"configmaps"}, "resourceNames": []any{recordName}, "verbs": []any{"get"}}}},
		{"apiVersion": group + "/v1", "kind": "RoleBinding", "metadata": metadata(recordRole), "subjects": everybody,
			"roleRef": map[string]any{"apiGroup": group, "kind": "Role", "name": recordRole}},
	}, nil
}
