package reconcile

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/firstboot/node"
)

// Reasons of the events about a registration.
const (
	reasonRefused      = "RegistrationRefused"
	reasonLabelRefused = "LabelRefused"
)

// register gives each Node the labels that its signed statement lets it have and that it lacks.
func (s *session) register(ctx context.Context) error { return s.each(ctx, s.registerOne) }

func (s *session) registerOne(ctx context.Context, n Node) error {
	text, k := n.Annotations[annotationRegistration], s.r.known[n.Name]
	if text == "" {
		return nil
	}
	if k.registration != text {
		k.registration, k.refused = text, false
		k.labels, k.refusal = s.facts.granted(n.Name, text)
	}
	if k.refusal != nil {
		return s.refuse(ctx, n.Name, k)
	}
	if len(k.lacks(n.Labels)) == 0 {
		return nil
	}
	// Another control plane may have been faster than the watch.
	current, err := s.api.Get(ctx, n.Name)
	if err != nil {
		return err
	}
	lacks := k.lacks(current.Metadata.Labels)
	if len(lacks) == 0 {
		return nil
	}
	return s.label(ctx, current, lacks)
}

// lacks are the labels that are missing on a Node that has these, but for those that were refused.
func (k *known) lacks(have map[string]string) map[string]string {
	lacks := missing(have, k.labels)
	maps.DeleteFunc(lacks, func(key, value string) bool { return k.bad[key+"="+value] })
	return lacks
}

// label sets labels on a Node. A bad one costs a warning and not the others.
func (s *session) label(ctx context.Context, n node.Node, labels map[string]string) error {
	name := n.Metadata.Name
	refusals, err := s.api.RegisterParts(ctx, name, node.Registration{Labels: labels, KeepTaints: true})
	if node.HasCode(err, http.StatusUnprocessableEntity) || node.HasCode(err, http.StatusForbidden) {
		for key := range labels {
			refusals = append(refusals, node.Refusal{What: labelPrefix + key, Err: err})
		}
	} else if err != nil {
		return err
	}
	taken := maps.Clone(labels)
	var texts []string
	for _, r := range refusals {
		key := strings.TrimPrefix(r.What, labelPrefix)
		s.r.known[name].bad[key+"="+labels[key]] = true
		delete(taken, key)
		texts = append(texts, r.String())
	}
	if len(taken) > 0 {
		s.r.say("node %s: set %s", name, describe(taken))
	}
	if len(texts) == 0 {
		return nil
	}
	slices.Sort(texts)
	return s.warn(ctx, n, reasonLabelRefused, strings.Join(texts, "; ")+"; the node has its other labels; change this one in cluster.yaml")
}

// labelPrefix is how a refusal names a label.
const labelPrefix = "label "

// refuse tells the cluster, once, that a Node's statement does not count.
func (s *session) refuse(ctx context.Context, name string, k *known) error {
	if k.refused {
		return nil
	}
	current, err := s.api.Get(ctx, name)
	if err != nil {
		return err
	}
	err = s.warn(ctx, current, reasonRefused, "the annotation "+annotationRegistration+" does not count: "+k.refusal.Error())
	k.refused = err == nil
	return err
}

// warn puts a warning on a Node, and a line into the log.
func (s *session) warn(ctx context.Context, n node.Node, reason, message string) error {
	if err := s.api.Record(ctx, n, node.Event{Type: "Warning", Reason: reason, Message: message[:min(len(message), 1024)]}); err != nil {
		return err
	}
	s.r.say("node %s: %s: %s", n.Metadata.Name, reason, message)
	return nil
}
