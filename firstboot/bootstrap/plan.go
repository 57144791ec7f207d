package bootstrap

import (
	"context"
	"path"

	"github.com/kiln-os/kiln/firstboot/fence"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/step"
)

// plan is all that is decided before the first side effect on the cluster: the steps are made from it.
type plan struct {
	m *Machine
	o kubeadm.Options
	// founds is the fence's decision: this node founds the cluster. Without it, the node joins.
	founds bool
	// claim tells other nodes that this one founds; nil without a key to prove it.
	claim *fence.Claim
	// machine is what the machine is.
	machine Facts
	// warnings are what was wrong with the identity and could be left out, and what a step could do without.
	warnings []string
	// done reports whether the journal says that a step was done, in this boot or before; began the same of its beginning.
	done, began func(step string) bool
	// history gives the journal's records, for the outcome.
	history func() []record
}

// identityStep is the one step that runs before there is an identity to plan with.
func identityStep(run func(ctx context.Context) (string, error)) step.Step {
	return step.Step{Name: "identity", Does: "finds the identity where the platform has it, checks it against the image and keeps a copy", Run: run}
}

// preparation is what every node does before it has to do with the cluster.
func (p *plan) preparation() step.List {
	id := p.o.Identity
	list := step.List{
		{Name: "hostname", Does: "names the machine " + id.Node.Name, Run: p.hostname},
		{Name: "clock", Does: "waits until the clock is not before the image's own time", Run: p.clock},
		{Name: "network", Does: "waits until " + id.Node.Address + " is on an interface", Run: p.network},
	}
	list = append(list, p.onAzure()...)
	return append(list, step.List{
		{Name: "network-config", Does: "gives the services' addresses a route and the resolver a last resort", Run: p.networkConfig},
		{Name: "preflight", Does: "compares the machine with what kubeadm needs", Run: p.preflight},
		{Name: "container-images", Does: "proves through CRI that every container image is present and pinned", Run: p.containerImages},
	}...)
}

// fenceStep decides whether this node founds the cluster; run is the runner's, which then knows the other steps.
func fenceStep(run func(ctx context.Context) (string, error)) step.Step {
	return step.Step{Name: "fence", Does: "asks the endpoint and the planned control planes whether the cluster lives, or another node founds it", Run: run}
}

// clustering is what follows: the node founds the cluster or joins it.
func (p plan) clustering() step.List {
	id := p.o.Identity
	var list step.List
	if p.staged() {
		list = append(list, step.Step{Name: "authorities", Does: "puts the identity's certificate authorities below " + nodefs.PKI, Run: p.authorities})
	}
	if p.founds {
		list = append(list, step.List{
			p.configStep(),
			{Name: "kubeadm-init", Does: "founds the cluster " + id.Cluster.Name + ", or goes on with what an earlier run began", Run: p.found},
			{Name: "addons", Does: "applies the baked manifests to the cluster", Run: p.addons},
			{Name: "record", Does: "writes down in the cluster who founded it and which tokens it has", Run: p.record},
		}...)
		return append(list, p.ending()...)
	}
	list = append(list, step.List{
		{Name: "endpoint", Does: "waits until the API answers at " + id.Cluster.Endpoint + ", and compares authority, token and version", Run: p.endpoint},
		p.configStep(),
		{Name: "kubeadm-join", Does: "joins the cluster " + id.Cluster.Name + " as a " + id.Node.Role + ", or goes on with what an earlier run began", Run: p.kubeadmJoin},
	}...)
	return append(list, p.ending()...)
}

func (p plan) configStep() step.Step {
	return step.Step{Name: "kubeadm-config", Does: "renders " + path.Base(nodefs.KubeadmConfig) + " and the patches", Run: p.kubeadmConfig}
}

// ending is what every node does once it is in the cluster.
func (p plan) ending() step.List {
	return step.List{
		{Name: "register", Does: "gives the Node its labels, annotations and taints", Run: p.register},
		{Name: "ready", Does: "waits until the Node is Ready", Run: p.ready},
		{Name: "outcome", Does: "reports the first boot as a condition of the Node and an event", Run: p.outcome},
		p.forgetStep(),
	}
}

func (p plan) forgetStep() step.Step {
	return step.Step{Name: "forget", Does: "removes the identity's secrets from the node", Run: p.forget}
}

// found founds the cluster, and says so to those who ask.
func (p plan) found(ctx context.Context) (string, error) {
	note, err := p.kubeadmInit(ctx)
	if err == nil {
		p.claim.Founded()
	}
	return note, err
}

// staged tells whether the identity carries the certificate authorities with their keys.
func (p plan) staged() bool {
	a := p.o.Identity.Bootstrap.Authorities
	return a != nil && !a.Cluster.Key.IsZero() && p.o.Identity.Node.Role == profile.ControlPlane
}

// list is every step in order, for people.
func (p plan) list() step.List {
	list := append(step.List{identityStep(nil)}, p.preparation()...)
	if p.o.Identity.Node.Initialise {
		list = append(list, fenceStep(nil))
	}
	return append(list, p.clustering()...)
}
