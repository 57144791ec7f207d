package reconcile

import (
	"context"

	"github.com/kiln-os/kiln/firstboot/node"
)

// ConditionUnique is the Node condition that tells whether its machine is in the cluster once. It appears when a machine
// was found twice.
const ConditionUnique = "KilnUnique"

// Reasons of the condition; the first is also that of an event.
const (
	reasonDuplicate = "DuplicateMachine"
	reasonUnique    = "UniqueMachine"
)

// whatToDo ends the condition's message.
const whatToDo = "; give each machine its own, or delete the Node of a machine that is gone"

// unique finds Nodes that have a product UUID or a MAC address in common, and says so on each of them.
func (s *session) unique(ctx context.Context) error {
	// Nothing is said before all are known: a Node that could not be read may be the other one.
	if err := s.each(ctx, s.look); err != nil {
		return err
	}
	marked := map[string][]string{}
	for name, n := range s.nodes {
		marked[name] = marks(n.Annotations[annotationMachine], s.r.known[name].systemUUID)
	}
	texts := duplicates(marked)
	return s.each(ctx, func(ctx context.Context, n Node) error {
		text := texts[n.Name]
		if text != "" {
			text += whatToDo
		}
		if s.r.known[n.Name].shared == text {
			return nil
		}
		return s.setUnique(ctx, n.Name, text)
	})
}

// look reads once what is not in a Node's metadata.
func (s *session) look(ctx context.Context, n Node) error {
	k := s.r.known[n.Name]
	if k.looked {
		return nil
	}
	current, err := s.api.Get(ctx, n.Name)
	if err != nil {
		return err
	}
	k.looked, k.systemUUID, k.shared = true, current.Status.NodeInfo.SystemUUID, sharedIn(current)
	return nil
}

// sharedIn is what a Node's condition says it has in common with others, "" for nothing.
func sharedIn(n node.Node) string {
	if c := n.Condition(ConditionUnique); c.Status == "False" {
		return c.Message
	}
	return ""
}

// setUnique makes the condition of a Node say text, "" being that nothing is shared, unless it does so already.
func (s *session) setUnique(ctx context.Context, name, text string) error {
	k := s.r.known[name]
	current, err := s.api.Get(ctx, name)
	if err != nil {
		return err
	}
	if sharedIn(current) == text {
		k.shared = text
		return nil
	}
	c := node.Condition{Type: ConditionUnique, Status: "True", Reason: reasonUnique, Message: "no other node has its product UUID or one of its MAC addresses"}
	if text != "" {
		c.Status, c.Reason, c.Message = "False", reasonDuplicate, text
	}
	// The event first: with the condition already right, nobody would record an event that was cut off between the two.
	if text != "" {
		if err := s.warn(ctx, current, reasonDuplicate, text); err != nil {
			return err
		}
	}
	if err := s.api.SetCondition(ctx, name, c); err != nil {
		return err
	}
	k.shared = text
	if text == "" {
		s.r.say("node %s: %s", name, c.Message)
	}
	return nil
}
