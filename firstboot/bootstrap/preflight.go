package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// What kubeadm v1.36 wants of a control plane (cmd/kubeadm/app/constants: ControlPlaneNumCPU, ControlPlaneMem, in MiB).
const (
	leastCPUs   = 2
	leastMemory = 1700
)

// finding is one thing about the machine that is not as it should be.
type finding struct {
	// check is kubeadm's name for it, by which customisation.ignorePreflightErrors leaves it out.
	check string
	text  string
	// mends says that time, or a person without a new machine, can mend it.
	mends bool
}

// preflight compares the machine with what kubeadm needs, before anything is made that would have to be cleared away:
// everything at once, and in words that say what to do. kubeadm's own preflight runs later and has the last word.
func (p plan) preflight(context.Context) (string, error) {
	findings := p.machineFindings()
	begun := p.hasBegun()
	if !begun {
		findings = append(findings, p.portFindings()...)
	}
	for _, warning := range p.machine.lack() {
		p.m.Report.say(event{step: "preflight", message: "warning: " + warning})
	}
	var wrong []error
	permanent := false
	for _, f := range findings {
		if p.ignored(f.check) {
			p.m.Report.say(event{step: "preflight", message: fmt.Sprintf("warning: %s (ignored, as %s is in customisation.ignorePreflightErrors)", f.text, f.check)})
			continue
		}
		wrong = append(wrong, errors.New(f.text))
		permanent = permanent || !f.mends
	}
	switch err := errors.Join(wrong...); {
	case err != nil && permanent:
		return "", Permanent{err}
	case err != nil:
		return "", err
	case begun:
		return "the machine fits; its ports belong to what kubeadm began before", nil
	}
	return "the machine fits, and its ports are free", nil
}

// ignored tells whether the identity leaves the check out. kubeadm takes the names in any case.
func (p plan) ignored(check string) bool {
	return slices.ContainsFunc(p.o.Identity.Cluster.Customisation.IgnorePreflightErrors, func(name string) bool {
		return strings.EqualFold(name, check) || strings.EqualFold(name, "all")
	})
}

// machineFindings are about what only another machine, or this one set up otherwise, can mend.
func (p plan) machineFindings() []finding {
	var findings []finding
	add := func(check, format string, args ...any) {
		findings = append(findings, finding{check: check, text: fmt.Sprintf(format, args...)})
	}
	have := p.machine
	if p.o.Identity.Node.Role == profile.ControlPlane {
		if have.CPUs > 0 && have.CPUs < leastCPUs {
			add("NumCPU", "machine: cpus: has %d, and a control plane needs %d; give it more", have.CPUs, leastCPUs)
		}
		if mib := have.Memory >> 20; mib > 0 && mib < leastMemory {
			add("Mem", "machine: memory: has %d MiB, and a control plane needs %d; give it more", mib, leastMemory)
		}
	}
	if len(have.Swap) > 0 && p.failsOnSwap() {
		add("Swap", "machine: swap: is on (%s), and the kubelet does not start then; take it away, or set failSwapOn: false in the kubelet's configuration", enumerate(have.Swap))
	}
	if name := p.o.Identity.Node.Name; slices.Contains(systemNames(), name) {
		add("Hostname", "identity: node.name: %q is what machines without a name are called; give the node one of its own", name)
	}
	return findings
}

// failsOnSwap tells whether the kubelet refuses to start with swap: unless a document says otherwise, it does. The
// node's own word counts before the cluster's, and that before the profile's.
func (p plan) failsOnSwap() bool {
	id := p.o.Identity
	for _, fields := range []map[string]any{id.Node.Kubelet, id.Cluster.Customisation.Kubelet, p.o.Profile.Kubelet} {
		if value, given := fields["failSwapOn"].(bool); given {
			return value
		}
	}
	return true
}

// lack says what the machine does not tell of itself. The cluster compares nodes by it, to find machines that are
// copies of one another.
func (f Facts) lack() []string {
	var lack []string
	if len(f.MACs) == 0 {
		lack = append(lack, "no network interface with a hardware address was found; copies of this machine cannot be told apart by it")
	}
	if f.UUID == "" {
		lack = append(lack, "the firmware tells no product UUID; copies of this machine cannot be told apart by it")
	}
	return lack
}

// hasBegun tells whether kubeadm ran before: the ports that it wants free may then be held by what it started.
func (p plan) hasBegun() bool {
	if p.began("kubeadm-init") || p.began("kubeadm-join") {
		return true
	}
	return filled(p.m.Root.Path(nodefs.KubeletConfig)) || filled(p.m.Root.Path(nodefs.Manifests+"/kube-apiserver.yaml"))
}
