package bootstrap

import (
	"context"
	"path"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// plan is all that is decided before the first side effect on the cluster: the steps are made from it.
type plan struct {
	m *Machine
	o kubeadm.Options
	// done reports whether the journal says that a step was done, in this boot or before.
	done func(step string) bool
	// history gives the journal's records, for the outcome.
	history func() []record
}

// identityStep is the one step that runs before there is an identity to plan with.
func identityStep(run func(ctx context.Context) (string, error)) step.Step {
	return step.Step{Name: "identity", Does: "finds the identity where the platform has it, checks it against the image and keeps a copy", Run: run}
}

// steps are the steps after the identity, in order.
func (p plan) steps() step.List {
	id := p.o.Identity
	list := step.List{
		{Name: "hostname", Does: "names the machine " + id.Node.Name, Run: p.hostname},
		{Name: "clock", Does: "waits until the clock is not before the image's own time", Run: p.clock},
		{Name: "network", Does: "waits until " + id.Node.Address + " is on an interface", Run: p.network},
		{Name: "network-config", Does: "gives the services' addresses a route and the resolver a last resort", Run: p.networkConfig},
		{Name: "container-images", Does: "proves through CRI that every container image is present and pinned", Run: p.containerImages},
	}
	if id.Bootstrap.Authorities != nil {
		list = append(list, step.Step{Name: "authorities", Does: "puts the identity's certificate authorities below " + nodefs.PKI, Run: p.authorities})
	}
	return append(list, step.List{
		{Name: "kubeadm-config", Does: "renders " + path.Base(nodefs.KubeadmConfig) + " and the profile's patches", Run: p.kubeadmConfig},
		{Name: "kubeadm-init", Does: "founds the cluster " + id.Cluster.Name + ", or goes on with what an earlier run began", Run: p.kubeadmInit},
		{Name: "addons", Does: "applies the baked manifests to the cluster", Run: p.addons},
		{Name: "register", Does: "gives the Node its labels, annotations and taints", Run: p.register},
		{Name: "ready", Does: "waits until the Node is Ready", Run: p.ready},
		{Name: "outcome", Does: "reports the first boot as a condition of the Node and an event", Run: p.outcome},
	}...)
}
