package profile

import (
	"regexp"
	"sort"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// Roles lists the roles that a node can have.
func Roles() []string { return []string{ControlPlane, Worker} }

// Effects lists what a taint can do (Kubernetes, core/v1 TaintEffect).
func Effects() []string { return []string{"NoSchedule", "PreferNoSchedule", "NoExecute"} }

var (
	// namePattern keeps names usable as a file's name, a build's argument and a label's value.
	namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	// packagePattern is a package's name (Debian Policy, section 5.6.1).
	packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	// unitPattern is a unit's full name (systemd.unit(5)); a template is enabled by its instances.
	unitPattern = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.(service|socket|timer|target|mount|automount|path|slice|swap|device|scope)$`)
)

func checkProfile(p *document.Problems, v Profile) {
	if !namePattern.MatchString(v.Name) {
		p.Add("name", "%s; want at most 63 of a-z, 0-9, - and ., as in control-plane", missingOr(v.Name))
	}
	if v.Role != ControlPlane && v.Role != Worker {
		p.Add("role", "%s; want %s", missingOr(v.Role), strings.Join(Roles(), " or "))
	}
	for i, name := range v.Packages {
		if !packagePattern.MatchString(name) {
			p.Add(indexed("packages", i), "%q is not the name of a Debian package; want one without a version, as in chrony", name)
		}
	}
	for _, unit := range sortedKeys(v.Units) {
		if !unitPattern.MatchString(unit) {
			p.Add("units."+unit, "is not a unit's full name; want one with its type, as in chrony.service")
		}
	}
	checkFiles(p, v.Files)
	CheckKubelet(p, "kubelet", v.Kubelet)
	checkLabels(p, v.Role, v.Labels)
	checkTaints(p, v.Taints)
	CheckPatches(p, "patches", v.Patches)
}

// missingOr says what is wrong with a value from a small set.
func missingOr(value string) string {
	if value == "" {
		return "missing"
	}
	return "unknown " + quote(value)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
