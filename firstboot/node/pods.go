package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Pod is the part of a Pod that firstboot looks at.
type Pod struct {
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		UID             string            `json:"uid"`
		Annotations     map[string]string `json:"annotations"`
		OwnerReferences []struct {
			Kind       string `json:"kind"`
			Controller bool   `json:"controller"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

// mirror marks a pod that a kubelet runs from a file: the API only shows it.
const mirror = "kubernetes.io/config.mirror"

// IsMirror tells whether the pod is run from a file: nobody can evict it.
func (p Pod) IsMirror() bool { return p.Metadata.Annotations[mirror] != "" }

// IsDaemon tells whether a DaemonSet controls the pod: it would come back at once.
func (p Pod) IsDaemon() bool {
	for _, owner := range p.Metadata.OwnerReferences {
		if owner.Controller && owner.Kind == "DaemonSet" {
			return true
		}
	}
	return false
}

func (c *Client) pods(ctx context.Context, path string, query url.Values) ([]Pod, error) {
	var list struct {
		Items []Pod `json:"items"`
	}
	if err := c.call(ctx, request{method: http.MethodGet, path: path + "?" + query.Encode()}, &list); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	return list.Items, nil
}

// PodsOf lists the pods of the Node called name, in all namespaces.
func (c *Client) PodsOf(ctx context.Context, name string) ([]Pod, error) {
	return c.pods(ctx, "/api/v1/pods", url.Values{"fieldSelector": {"spec.nodeName=" + name}})
}

// etcdClientURLs is the annotation by which kubeadm finds the members of a stacked etcd (constants.EtcdAdvertiseClientUrlsAnnotationKey).
const etcdClientURLs = "kubeadm.kubernetes.io/etcd.advertise-client-urls"

// EtcdURLs lists the client URLs of the cluster's etcd members, as their pods say. A member whose machine is lost may still
// be among them.
func (c *Client) EtcdURLs(ctx context.Context) ([]string, error) {
	pods, err := c.pods(ctx, "/api/v1/namespaces/kube-system/pods", url.Values{"labelSelector": {"component=etcd,tier=control-plane"}})
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, pod := range pods {
		if at := pod.Metadata.Annotations[etcdClientURLs]; at != "" {
			urls = append(urls, at)
		}
	}
	return urls, nil
}

// Evict asks for the pod's eviction, which a disruption budget may refuse for now (429: the client waits and asks again).
// A pod that is gone already is no error.
func (c *Client) Evict(ctx context.Context, p Pod) error {
	body := map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata":      map[string]any{"name": p.Metadata.Name, "namespace": p.Metadata.Namespace},
		"deleteOptions": map[string]any{"preconditions": map[string]any{"uid": p.Metadata.UID}},
	}
	path := "/api/v1/namespaces/" + url.PathEscape(p.Metadata.Namespace) + "/pods/" + url.PathEscape(p.Metadata.Name) + "/eviction"
	err := c.call(ctx, request{method: http.MethodPost, path: path, contentType: typeJSON, body: body}, nil)
	if err != nil && !HasCode(err, http.StatusNotFound) {
		return fmt.Errorf("evicting pod %s/%s: %w", p.Metadata.Namespace, p.Metadata.Name, err)
	}
	return nil
}

// Delete deletes the Node object n as it was read: one that was changed or made anew since stays, and the answer is a
// conflict (409). One that is gone already is no error.
func (c *Client) Delete(ctx context.Context, n Node) error {
	body := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": map[string]any{
		"uid": n.Metadata.UID, "resourceVersion": n.Metadata.ResourceVersion}}
	err := c.call(ctx, request{method: http.MethodDelete, path: pathOf(n.Metadata.Name), contentType: typeJSON, body: body}, nil)
	if err != nil && !HasCode(err, http.StatusNotFound) {
		return fmt.Errorf("deleting node %s: %w", n.Metadata.Name, err)
	}
	return nil
}
