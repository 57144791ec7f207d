package bootstrap

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
)

// ConditionType is the Node condition that tells how the first boot went.
const ConditionType = "KilnFirstBoot"

// Reasons of the condition and of events.
const (
	reasonCompleted = "Completed"
	reasonFailed    = "FirstBootFailed"
	eventCompleted  = "FirstBootCompleted"
	eventIncomplete = "RegistrationIncomplete"
)

// mostOfMessage is how many bytes the API server takes as an event's message (kubernetes, pkg/apis/core/validation).
const mostOfMessage = 1024

func shortened(text string) string {
	for len(text) > mostOfMessage {
		text = strings.ToValidUTF8(text[:mostOfMessage-len("…")], "") + "…"
	}
	return text
}

// outcome tells the cluster that the first boot is complete, and what was left out of it.
func (p plan) outcome(ctx context.Context) (string, error) {
	name := p.o.Identity.Node.Name
	client, err := p.api()
	if err != nil {
		return "", err
	}
	current, err := client.Get(ctx, name)
	if err != nil {
		return "", fmt.Errorf("reading node: %w", err)
	}
	message := summary(p.history())
	text := message
	for _, warning := range append(slices.Clone(p.warnings), p.lacking(current)...) {
		text += "\nwarning: " + warning
	}
	text = shortened(p.m.Report.redactor.text(text))
	if err := client.SetCondition(ctx, name, node.Condition{Type: ConditionType, Status: "True", Reason: reasonCompleted, Message: text}); err != nil {
		return "", err
	}
	return message, client.Record(ctx, current, node.Event{Type: "Normal", Reason: eventCompleted, Message: shortened(message)})
}

// lacking names what the Node does not have of what this node set itself: the API server has refused it.
func (p plan) lacking(current node.Node) []string {
	want := p.registration()
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(want.Labels)) {
		if have, there := current.Metadata.Labels[key]; !there || have != want.Labels[key] {
			texts = append(texts, fmt.Sprintf("the Node has no label %s=%s; see the events of the Node", key, want.Labels[key]))
		}
	}
	if want.ProviderID != "" && current.Spec.ProviderID != want.ProviderID {
		texts = append(texts, fmt.Sprintf("the Node has the provider ID %q, not %q, and nobody can change it; delete the Node and restart the kubelet",
			current.Spec.ProviderID, want.ProviderID))
	}
	return texts
}

// summary says how long the first boot took so far, and each of its steps.
func summary(records []record) string {
	seconds := map[string]float64{}
	var order []string
	for _, r := range records {
		if r.State != done {
			continue
		}
		if _, seen := seconds[r.Step]; !seen {
			order = append(order, r.Step)
		}
		seconds[r.Step] = r.Seconds
	}
	parts := make([]string, len(order))
	for i, name := range order {
		parts[i] = fmt.Sprintf("%s %.2f", name, seconds[name])
	}
	return fmt.Sprintf("first boot took %.1f s (%s)", took(records), strings.Join(parts, ", "))
}

// took is how many seconds lie between the first and the last record of each boot, in all: the time that the machine
// was off does not count, and a clock that was set meanwhile does no harm.
func took(records []record) float64 {
	total, first := 0.0, 0.0
	for i, r := range records {
		if i == 0 || r.BootID != records[i-1].BootID {
			first = r.Uptime
		}
		if i == len(records)-1 || records[i+1].BootID != r.BootID {
			total += r.Uptime - first
		}
	}
	return total
}

// confess tells the cluster that a step failed, if there is a cluster to tell. The failure itself matters more than
// whether this works.
func (p plan) confess(ctx context.Context, step string, failure error) {
	client, err := p.api()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	message := p.m.Report.redactor.text(fmt.Sprintf("step %s: %s", step, failure))
	_ = client.SetCondition(ctx, p.o.Identity.Node.Name, node.Condition{Type: ConditionType, Status: "False", Reason: reasonFailed,
		Message: shortened(message)})
}
