package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kiln-os/kiln/firstboot/fence"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// fenceState is what a would-be initialiser keeps on its disk.
type fenceState struct {
	// Nonce tells this disk from another with a copy of its identity.
	Nonce string `json:"nonce"`
	// YieldedTo is the node that this one has left the founding to.
	YieldedTo string `json:"yieldedTo,omitempty"`
}

// fence decides whether this node founds the cluster or joins it. A node with etcd data has founded already, and one that
// began to join never founds.
func (p *plan) fence(ctx context.Context) (string, error) {
	if p.began("kubeadm-join") {
		return "the cluster was found alive before; joining it", nil
	}
	options, err := p.fenceOptions()
	if err != nil {
		return "", err
	}
	if !p.m.hasLog() {
		// Static pods that a power cut has left would be started by the kubelet by now, and this node's own API server be
		// taken for a living cluster. The kubelet may have been quicker than we: hence the second look.
		if err := p.clean(ctx, "fence"); err != nil {
			return "", err
		}
	}
	if p.m.hasLog() {
		p.founds = true
		if p.claim, err = fence.Hold(options); err != nil {
			// The others see the data's cluster itself as soon as its API server runs.
			p.m.Report.say(event{step: "fence", message: "warning: other nodes cannot be told: " + err.Error()})
		}
		return "going on with the cluster whose etcd data is here", nil
	}
	decision, err := fence.Decide(ctx, options)
	if permanent, ok := errors.AsType[interface {
		error
		Permanent() bool
	}](err); ok && permanent.Permanent() {
		return "", Permanent{err}
	}
	if err != nil {
		return "", err
	}
	if decision.Action == fence.Join {
		founder := "founded by this node before"
		if decision.Founder == "" {
			founder = "whose founder is not known"
		}
		return fmt.Sprintf("the cluster lives at %s, %s; joining it", decision.Seen, founder), nil
	}
	p.founds, p.claim = true, decision.Claim
	return "no cluster lives and no other node founds one", nil
}

// release lets other nodes see for themselves again.
func (p *plan) release() {
	p.claim.Close()
	p.claim = nil
}

func (p *plan) fenceOptions() (fence.Options, error) {
	state, err := p.m.fenceState()
	if err != nil {
		return fence.Options{}, err
	}
	id := p.o.Identity
	o := fence.Options{
		Name: id.Node.Name, Address: id.Node.Address, Nonce: state.Nonce, YieldedTo: state.YieldedTo,
		Endpoint: id.Cluster.Endpoint, ControlPlanes: id.Cluster.ControlPlanes, Say: p.saying("fence"),
		Remember: func(name string) error {
			state.YieldedTo = name
			return p.m.saveFenceState(state)
		},
	}
	if p.staged() {
		if o.Authority, o.Key, err = fence.ParsePair(id.Bootstrap.Authorities.Cluster); err != nil {
			return o, Permanent{err}
		}
	}
	if p.m.Fence != nil {
		p.m.Fence(&o)
	}
	return o, nil
}

// fenceState reads what this disk keeps for the fence, and makes it the first time.
func (m *Machine) fenceState() (fenceState, error) {
	var state fenceState
	text, err := os.ReadFile(m.Root.Path(nodefs.FenceState))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return state, fmt.Errorf("reading fence state: %w", err)
	}
	if json.Unmarshal(text, &state) == nil && state.Nonce != "" {
		return state, nil
	}
	state.Nonce = fence.NewNonce()
	return state, m.saveFenceState(state)
}

func (m *Machine) saveFenceState(state fenceState) error {
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("writing fence state: %w", err)
	}
	return put(m.Root.Path(nodefs.FenceState), text, 0o600)
}
