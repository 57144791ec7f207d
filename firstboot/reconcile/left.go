package reconcile

import (
	"context"
	"net/http"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
)

// AnnotationLeft says when a node has left the cluster (RFC 3339). `firstboot reset` sets it on a worker, whose kubelet may
// not delete its Node.
const AnnotationLeft = "kiln.dev/left"

// leave deletes the Nodes that have left, once they are not Ready any more or a while has passed. Control planes delete
// their own: what a kubelet says must not remove one.
func (s *session) leave(ctx context.Context) error {
	return s.each(ctx, func(ctx context.Context, n Node) error {
		k := s.r.known[n.Name]
		if _, control := n.Labels[controlPlaneLabel]; n.Annotations[AnnotationLeft] == "" || control {
			k.left = time.Time{}
			return nil
		}
		return s.deleteLeft(ctx, n, k)
	})
}

func (s *session) deleteLeft(ctx context.Context, n Node, k *known) error {
	now := s.r.Now()
	if k.left.IsZero() {
		k.left = now
	}
	current, err := s.api.Get(ctx, n.Name)
	if err != nil {
		return err
	}
	ready := current.Condition("Ready")
	if current.Metadata.UID != n.UID || cameBack(ready, n.Annotations[AnnotationLeft]) {
		return nil
	}
	if ready.Status == "True" && now.Sub(k.left) < s.r.Pace.Left {
		return nil
	}
	err = s.api.Delete(ctx, current)
	if node.HasCode(err, http.StatusConflict) {
		return nil // it has changed since: looked at again at the next tick
	}
	if err == nil {
		s.r.say("node %s: deleted, because it has left the cluster", n.Name)
	}
	return err
}

// cameBack tells whether a Node became Ready after it had left: its machine joined again before anybody deleted it.
func cameBack(ready node.Condition, left string) bool {
	at, err := time.Parse(time.RFC3339, left)
	return err == nil && ready.Status == "True" && ready.LastTransitionTime.After(at)
}
