package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// The rules of Kubernetes for labels and taints (apimachinery, util/validation: IsQualifiedName, IsValidLabelValue).
var (
	qualifiedName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	dnsName       = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
)

const (
	wantKey   = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, with an optional DNS prefix and /, as in example.org/rack"
	wantValue = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, or nothing"
)

func isKey(key string) bool {
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		return qualifiedName.MatchString(key)
	}
	return len(prefix) <= 253 && dnsName.MatchString(prefix) && qualifiedName.MatchString(name)
}

func isValue(value string) bool { return value == "" || qualifiedName.MatchString(value) }

func checkLabels(p *document.Problems, role string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		field := "labels." + key
		prefix, _, found := strings.Cut(key, "/")
		switch {
		case !isKey(key):
			p.Add(field, "is not a label's name; want %s", wantKey)
		case found && within(prefix, "node-role.kubernetes.io"):
			p.Add(field, "is a role's label, which no kubelet may give itself; set role, and the node gets the label from it")
		case found && within(prefix, "kiln.dev"):
			p.Add(field, "belongs to kiln, which sets it itself; use a prefix of your own")
		case role == Worker && !KubeletMaySet(key):
			p.Add(field, "is a label that a worker may not give itself (NodeRestriction); use a prefix of your own, or node.kubernetes.io/")
		}
		if !isValue(labels[key]) {
			p.Add(field, "has a value %q that is not a label's; want %s", labels[key], wantValue)
		}
	}
}

func within(prefix, domain string) bool {
	return prefix == domain || strings.HasSuffix(prefix, "."+domain)
}

// KubeletMaySet tells whether the NodeRestriction admission plugin lets a kubelet put the label on its own Node
// (kubernetes, pkg/kubelet/apis/well_known_labels.go).
func KubeletMaySet(key string) bool {
	prefix, _, found := strings.Cut(key, "/")
	if !found || !within(prefix, "kubernetes.io") && !within(prefix, "k8s.io") {
		return true
	}
	if within(prefix, "kubelet.kubernetes.io") || within(prefix, "node.kubernetes.io") {
		return true
	}
	return slices.Contains([]string{
		"kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
		"beta.kubernetes.io/instance-type", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
		"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
	}, key)
}

func checkTaints(p *document.Problems, taints []Taint) {
	seen := map[string]int{}
	for i, taint := range taints {
		field := indexed("taints", i)
		if !isKey(taint.Key) {
			p.Add(field+".key", "%s; want %s", missingOr(taint.Key), wantKey)
		}
		if !isValue(taint.Value) {
			p.Add(field+".value", "%q is not a taint's value; want %s", taint.Value, wantValue)
		}
		if !slices.Contains(Effects(), taint.Effect) {
			p.Add(field+".effect", "%s; want %s", missingOr(taint.Effect), strings.Join(Effects(), ", "))
		}
		id := taint.Key + ":" + taint.Effect
		if first, again := seen[id]; again {
			p.Add(field, "has the key and effect of taints[%d]; keep one of them", first)
			continue
		}
		seen[id] = i
	}
}

func indexed(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func quote(s string) string { return fmt.Sprintf("%q", s) }
