package node

import (
	"context"
	"fmt"
	"net/http"
)

// Cordon keeps new pods off the Node called name. A kubelet may do so to its own (NodeRestriction, admitNode: only taints,
// owners and labels of the Node are guarded).
func (c *Client) Cordon(ctx context.Context, name string) error {
	return c.merge(ctx, name, map[string]any{"spec": map[string]any{"unschedulable": true}}, "cordoning node")
}

// Annotate adds annotations to the Node called name.
func (c *Client) Annotate(ctx context.Context, name string, annotations map[string]string) error {
	return c.merge(ctx, name, map[string]any{"metadata": map[string]any{"annotations": annotations}}, "annotating node")
}

func (c *Client) merge(ctx context.Context, name string, patch map[string]any, doing string) error {
	r := request{method: http.MethodPatch, path: pathOf(name) + "?fieldManager=" + FieldManager, contentType: typeMergePatch, body: patch}
	if err := c.call(ctx, r, nil); err != nil {
		return fmt.Errorf("%s %s: %w", doing, name, err)
	}
	return nil
}

// IsManaged tells whether something makes the pod anew elsewhere when it is gone.
func (p Pod) IsManaged() bool {
	for _, owner := range p.Metadata.OwnerReferences {
		if owner.Controller {
			return true
		}
	}
	return false
}
