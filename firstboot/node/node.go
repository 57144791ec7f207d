package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/profile"
)

// Node is the part of a Node object that firstboot looks at.
type Node struct {
	Metadata struct {
		Name            string            `json:"name"`
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		ProviderID string  `json:"providerID"`
		Taints     []Taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []Condition `json:"conditions"`
	} `json:"status"`
}

// Taint is a taint as the API has it: one that evicts pods also knows since when.
type Taint struct {
	profile.Taint
	TimeAdded string `json:"timeAdded,omitempty"`
}

// Condition is one of a Node's conditions.
type Condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
	LastHeartbeatTime  time.Time `json:"lastHeartbeatTime"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
}

// Condition finds a condition; without it, its status is Unknown.
func (n Node) Condition(kind string) Condition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return Condition{Type: kind, Status: "Unknown", Reason: "NotReported", Message: "the kubelet has not reported yet"}
}

func pathOf(name string) string { return "/api/v1/nodes/" + url.PathEscape(name) }

// Get reads the Node object called name.
func (c *Client) Get(ctx context.Context, name string) (Node, error) {
	var n Node
	err := c.call(ctx, request{method: http.MethodGet, path: pathOf(name)}, &n)
	return n, err
}

// Registration is what a node shall look like to the cluster.
type Registration struct {
	Labels      map[string]string
	Annotations map[string]string
	// Taints are all that the node shall have, beside those that Kubernetes itself sets and clears; RoleTaint is the key
	// of the role's taint, which goes when Taints lacks it.
	Taints    []profile.Taint
	RoleTaint string
}

// Register gives the Node called name its labels, annotations and taints. It changes nothing that is right already.
func (c *Client) Register(ctx context.Context, name string, want Registration) error {
	for {
		current, err := c.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("registering node: %w", err)
		}
		patch := map[string]any{
			"metadata": map[string]any{
				// Taints are replaced as a list, so nobody may have changed it since it was read.
				"resourceVersion": current.Metadata.ResourceVersion,
				"labels":          want.Labels,
				"annotations":     want.Annotations,
			},
			"spec": map[string]any{"taints": want.merge(current.Spec.Taints)},
		}
		err = c.call(ctx, request{http.MethodPatch, pathOf(name) + "?fieldManager=" + FieldManager, typeMergePatch, patch}, nil)
		if HasCode(err, http.StatusConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("registering node: %w", err)
		}
		return nil
	}
}

// merge keeps the taints that are not the registration's to decide, and adds the wanted ones.
func (r Registration) merge(current []Taint) []Taint {
	merged := []Taint{}
	for _, taint := range r.Taints {
		merged = append(merged, Taint{Taint: taint})
	}
	for _, taint := range current {
		same := func(other Taint) bool { return other.Key == taint.Key && other.Effect == taint.Effect }
		if taint.Key != r.RoleTaint && !slices.ContainsFunc(merged, same) {
			merged = append(merged, taint)
		}
	}
	return merged
}

// SetCondition sets one condition of the Node called name. The kubelet, which owns the others, leaves it alone.
func (c *Client) SetCondition(ctx context.Context, name string, condition Condition) error {
	// Kubernetes reads times to the second.
	now := time.Now().UTC().Truncate(time.Second)
	condition.LastHeartbeatTime, condition.LastTransitionTime = now, now
	body := map[string]any{"status": map[string]any{"conditions": []Condition{condition}}}
	err := c.call(ctx, request{http.MethodPatch, pathOf(name) + "/status?fieldManager=" + FieldManager, typeStrategicPatch, body}, nil)
	if err != nil {
		return fmt.Errorf("setting condition %s: %w", condition.Type, err)
	}
	return nil
}

// Event is something that happened to a Node.
type Event struct {
	// Type is Normal or Warning.
	Type, Reason, Message string
}

// Record puts an event on the node n. The same reason is recorded once for a node, however often it is reported.
func (c *Client) Record(ctx context.Context, n Node, e Event) error {
	now := time.Now().UTC().Truncate(time.Second)
	body := map[string]any{
		"apiVersion":         "v1",
		"kind":               "Event",
		"metadata":           map[string]any{"name": n.Metadata.Name + "." + strings.ToLower(e.Reason), "namespace": "default"},
		"involvedObject":     map[string]any{"apiVersion": "v1", "kind": "Node", "name": n.Metadata.Name, "uid": n.Metadata.UID},
		"type":               e.Type,
		"reason":             e.Reason,
		"message":            e.Message,
		"source":             map[string]any{"component": FieldManager, "host": n.Metadata.Name},
		"reportingComponent": FieldManager,
		"reportingInstance":  n.Metadata.Name,
		"firstTimestamp":     now,
		"lastTimestamp":      now,
		"count":              1,
	}
	err := c.call(ctx, request{http.MethodPost, "/api/v1/namespaces/default/events", typeJSON, body}, nil)
	if err != nil && !HasCode(err, http.StatusConflict) {
		return fmt.Errorf("recording event %s: %w", e.Reason, err)
	}
	return nil
}
