package node

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/kiln-os/kiln/internal/profile"
)

// Registration is what a node shall look like to the cluster.
type Registration struct {
	Labels      map[string]string
	Annotations map[string]string
	// Taints are all that the node shall have, beside those that Kubernetes itself sets and clears; RoleTaint is the key
	// of the role's taint, which goes when Taints lacks it.
	Taints    []profile.Taint
	RoleTaint string
	// KeepTaints leaves the taints as they are: a kubelet may not change them (NodeRestriction, admitNode).
	KeepTaints bool
	// ProviderID is set on a Node that has none. The API server lets nobody change it (ValidateNodeUpdate).
	ProviderID string
}

// Refusal is a part of a registration that the API server does not take.
type Refusal struct {
	// What names the part, as in "label example.org/rack".
	What string
	Err  error
}

// String says what was refused and why, for people.
func (r Refusal) String() string { return fmt.Sprintf("%s was refused: %s", r.What, r.Err) }

// Register gives the Node called name its labels, annotations and taints. It changes nothing that is right already.
func (c *Client) Register(ctx context.Context, name string, want Registration) error {
	for {
		current, err := c.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("registering node: %w", err)
		}
		r := request{method: http.MethodPatch, path: pathOf(name) + "?fieldManager=" + FieldManager, contentType: typeMergePatch, body: want.patch(current)}
		err = c.call(ctx, r, nil)
		if HasCode(err, http.StatusConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("registering node: %w", err)
		}
		return nil
	}
}

// RegisterParts is Register for a registration of which the API server may refuse a part: that part is left out and
// named, the rest is set. It is an error when nothing can be set.
func (c *Client) RegisterParts(ctx context.Context, name string, want Registration) ([]Refusal, error) {
	whole := c.Register(ctx, name, want)
	if !refusedFor(whole) {
		return nil, whole
	}
	var refused []Refusal
	parts := want.parts()
	for _, part := range parts {
		err := c.Register(ctx, name, part.want)
		switch {
		case refusedFor(err):
			refused = append(refused, Refusal{part.what, err})
		case err != nil:
			return nil, err
		}
	}
	if len(refused) == len(parts) {
		return nil, whole
	}
	return refused, nil
}

// refusedFor tells whether err is about what was asked for: forbidden, or not valid.
func refusedFor(err error) bool {
	return HasCode(err, http.StatusForbidden) || HasCode(err, http.StatusUnprocessableEntity)
}

// part is a piece of a registration that stands by itself.
type part struct {
	what string
	want Registration
}

func (r Registration) parts() []part {
	var parts []part
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		parts = append(parts, part{"annotation " + key, Registration{Annotations: map[string]string{key: r.Annotations[key]}, KeepTaints: true}})
	}
	for _, key := range slices.Sorted(maps.Keys(r.Labels)) {
		parts = append(parts, part{"label " + key, Registration{Labels: map[string]string{key: r.Labels[key]}, KeepTaints: true}})
	}
	if r.ProviderID != "" {
		parts = append(parts, part{"provider ID " + r.ProviderID, Registration{ProviderID: r.ProviderID, KeepTaints: true}})
	}
	if !r.KeepTaints {
		parts = append(parts, part{"the list of taints", Registration{Taints: r.Taints, RoleTaint: r.RoleTaint}})
	}
	return parts
}

// patch is a merge patch of the Node as it was read.
func (r Registration) patch(current Node) map[string]any {
	metadata, spec := map[string]any{}, map[string]any{}
	if len(r.Labels) > 0 {
		metadata["labels"] = r.Labels
	}
	if len(r.Annotations) > 0 {
		metadata["annotations"] = r.Annotations
	}
	if !r.KeepTaints {
		// Taints are replaced as a list, so nobody may have changed it since it was read.
		metadata["resourceVersion"] = current.Metadata.ResourceVersion
		spec["taints"] = r.merge(current.Spec.Taints)
	}
	if r.ProviderID != "" && current.Spec.ProviderID == "" {
		spec["providerID"] = r.ProviderID
	}
	return map[string]any{"metadata": metadata, "spec": spec}
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
