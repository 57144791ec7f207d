package source

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/cluster"
)

// Metadata is what a platform says of a machine. What it does not say is empty.
type Metadata struct {
	// Hostname is the machine's name, with or without a domain.
	Hostname string
	// InstanceID is the platform's own name for the machine.
	InstanceID string
	// Zone and Region are what the labels topology.kubernetes.io/zone and /region have there.
	Zone, Region string
	// ProviderID is what the platform's cloud controller calls the machine, as in aws:///eu-west-1a/i-0123.
	ProviderID string
}

// The labels of a node's place (kubernetes.io/docs/reference/labels-annotations-taints).
const (
	labelZone   = "topology.kubernetes.io/zone"
	labelRegion = "topology.kubernetes.io/region"
)

var (
	// labelValue is what a label can have (apimachinery, IsValidLabelValue).
	labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	// providerIDForm is SCHEME://… without what would break the kubelet's arguments.
	providerIDForm = regexp.MustCompile(`^[a-z][a-z0-9-]*://[!#%&()*+,./0-9:;<=>?@A-Z\[\]^_a-z{|}~-]+$`)
)

// Fill fills in what the identity leaves open of a node: zone, region and provider ID. What the platform says and a Node
// cannot have is left out, and the answer says so. A name is not filled in here: Hostname is for the pattern of a pool.
func (m Metadata) Fill(node *cluster.Node) (warnings []string) {
	for _, fill := range []struct {
		field, label string
		to           *string
		value        string
		form         *regexp.Regexp
	}{
		{"zone", labelZone, &node.Zone, m.Zone, labelValue},
		{"region", labelRegion, &node.Region, m.Region, labelValue},
		{"providerID", "", &node.ProviderID, m.ProviderID, providerIDForm},
	} {
		_, labelled := node.Labels[fill.label]
		switch {
		case fill.value == "" || *fill.to != "" || labelled:
		case !fill.form.MatchString(fill.value):
			warnings = append(warnings, fmt.Sprintf("the platform's metadata: %s: %q is nothing that a Node can have; the node goes without it", fill.field, fill.value))
		default:
			*fill.to = fill.value
		}
	}
	return warnings
}

// hostname is a machine's name as kiln compares it.
func hostname(text string) string { return strings.ToLower(strings.Trim(strings.TrimSpace(text), ".")) }
