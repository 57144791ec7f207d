package node

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
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
		NodeInfo   struct {
			SystemUUID string `json:"systemUUID"`
		} `json:"nodeInfo"`
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

// SetCondition sets one condition of the Node called name. The kubelet, which owns the others, leaves it alone.
func (c *Client) SetCondition(ctx context.Context, name string, condition Condition) error {
	// Kubernetes reads times to the second.
	now := time.Now().UTC().Truncate(time.Second)
	condition.LastHeartbeatTime, condition.LastTransitionTime = now, now
	body := map[string]any{"status": map[string]any{"conditions": []Condition{condition}}}
	err := c.call(ctx, request{method: http.MethodPatch, path: pathOf(name) + "/status?fieldManager=" + FieldManager, contentType: typeStrategicPatch, body: body}, nil)
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
	err := c.call(ctx, request{method: http.MethodPost, path: "/api/v1/namespaces/default/events", contentType: typeJSON, body: body}, nil)
	if err != nil && !HasCode(err, http.StatusConflict) {
		return fmt.Errorf("recording event %s: %w", e.Reason, err)
	}
	return nil
}
