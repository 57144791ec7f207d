package cluster

import (
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// The labels of a node's place (kubernetes.io/docs/reference/labels-annotations-taints).
const (
	labelZone   = "topology.kubernetes.io/zone"
	labelRegion = "topology.kubernetes.io/region"
)

const (
	wantLabelKey   = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, with an optional DNS prefix and /"
	wantLabelValue = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, or nothing"
)

// checkCommon checks what the nodes of both documents have in common; part is the path of the node.
func checkCommon(p *document.Problems, part string, c Common) {
	checkRegistered(p, part, c)
	// The provider ID travels as a kubelet argument through an environment file that is split at spaces.
	if strings.ContainsAny(c.ProviderID, " \t\r\n\"'\\$") {
		p.Add(part+".providerID", "holds a space, a quote, a backslash or a dollar sign; want the provider's own form, as in aws:///eu-west-1a/i-0123")
	}
	profile.CheckKubelet(p, part+".kubelet", c.Kubelet)
	checkMachineNetwork(p, part+".network", c.Network)
}

// checkRegistered checks what only shows on the Node object: labels, taints and place.
func checkRegistered(p *document.Problems, part string, c Common) {
	for _, place := range []struct{ name, value, label string }{{"zone", c.Zone, labelZone}, {"region", c.Region, labelRegion}} {
		if !isLabelValue(place.value) {
			p.Add(part+"."+place.name, "%q is not a label's value; want %s", place.value, wantLabelValue)
		}
		if label, both := c.Labels[place.label]; both && place.value != "" && label != place.value {
			p.Add(part+".labels."+place.label, "says %q, but %s says %q; give one of them", label, place.name, place.value)
		}
	}
	for _, key := range sortedKeys(c.Labels) {
		checkLabel(p, part+".labels."+key, key, c.Labels[key])
	}
	if c.Taints != nil {
		checkTaints(p, part+".taints", *c.Taints)
	}
}

func checkLabel(p *document.Problems, field, key, value string) {
	prefix, _, _ := strings.Cut(key, "/")
	switch {
	case !isLabelKey(key):
		p.Add(field, "is not a label's name; want %s", wantLabelKey)
	case within(prefix, "node-role.kubernetes.io"):
		p.Add(field, "role labels are not set by hand; the node gets its role label from its role")
	case within(prefix, "kiln.dev"):
		p.Add(field, "labels below kiln.dev/ are set by the node itself; use a prefix of your own")
	case key == "kubernetes.io/hostname" || key == "kubernetes.io/os" || key == "kubernetes.io/arch":
		p.Add(field, "the kubelet sets it itself; leave it out")
	}
	if !isLabelValue(value) {
		p.Add(field, "has a value that is not a label's; want %s", wantLabelValue)
	}
}

func within(prefix, domain string) bool {
	return prefix == domain || strings.HasSuffix(prefix, "."+domain)
}

func checkTaints(p *document.Problems, field string, taints []profile.Taint) {
	seen := map[string]bool{}
	for i, taint := range taints {
		field := indexed(field, i)
		checkRequired(p, field+".key", taint.Key, isLabelKey, wantLabelKey)
		if !isLabelValue(taint.Value) {
			p.Add(field+".value", "is not a taint's value; want %s", wantLabelValue)
		}
		switch taint.Effect {
		case "NoSchedule", "PreferNoSchedule", "NoExecute":
		default:
			p.Add(field+".effect", "unknown %q; want NoSchedule, PreferNoSchedule or NoExecute", taint.Effect)
		}
		id := taint.Key + ":" + taint.Effect
		if seen[id] {
			p.Add(field, "a taint with this key and effect is given before; keep one of them")
		}
		seen[id] = true
	}
}
