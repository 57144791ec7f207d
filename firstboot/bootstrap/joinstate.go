package bootstrap

import (
	"bytes"
	"context"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// membership is what the cluster's etcd knows of this node.
type membership int

const (
	// memberUnknown: nobody was asked, or nobody answered.
	memberUnknown membership = iota
	// memberNone: no member has this node's peer URL or name.
	memberNone
	// memberUnstarted: kubeadm has announced the node, but etcd never ran there as this member.
	memberUnstarted
	// memberStarted: etcd ran there, as a learner or a voter. It has promised to remember what it was sent.
	memberStarted
	// memberElsewhere: a member of this node's name has another peer URL.
	memberElsewhere
)

// joinFacts is what a joining node sees of itself and of the cluster. The journal counts only for written.
type joinFacts struct {
	controlPlane bool
	// written: the journal says that the step was done.
	written bool
	// kubelet: the kubelet has its certificate and its configuration.
	kubelet bool
	// data: etcd took part here.
	data bool
	// files: every static pod and kubeconfig of a control plane is there.
	files bool
	// member is asked for by control planes only.
	member membership
	// voter: the member is no learner any more.
	voter bool
	// marked: this node's own API server is ready, and has the Node with the role's label.
	marked bool
}

// joinAction is what the facts lead to.
type joinAction int

const (
	// joinDone: there is nothing to do.
	joinDone joinAction = iota
	// joinAnew: whatever is there came to nothing; clear it away and join whole.
	joinAnew
	// joinReplace: as joinAnew, but a member of etcd that lost its data has to go first.
	joinReplace
	// joinAwait: the kubelet has all that it needs, and registers the Node itself.
	joinAwait
	// joinResume: etcd has data here that must never be wiped; kubeadm goes over the rest again.
	joinResume
	// joinAsk: without an answer of etcd's, nothing can be decided.
	joinAsk
	// joinRemoved: the cluster has removed the member whose data is here; only a person can decide to lose that.
	joinRemoved
	// joinMoved: the data here is of a member with another address.
	joinMoved
)

// next decides. Its order is the table of facts/kubeadm.md 2.4.
func (f joinFacts) next() joinAction {
	switch {
	case !f.controlPlane && f.kubelet:
		return joinAwait
	case !f.controlPlane:
		return joinAnew
	case f.settled():
		return joinDone
	case f.member == memberUnknown:
		return joinAsk
	case f.data:
		return f.withData()
	case f.member == memberStarted, f.member == memberElsewhere:
		return joinReplace
	}
	// No member, or one that never ran: kubeadm adds it, or skips that (util/etcd, addMember).
	return joinAnew
}

// settled tells whether a control plane is complete without asking anybody: a member may need a minute after a reboot, and
// the next steps wait for the API.
func (f joinFacts) settled() bool { return f.written && f.data && f.kubelet && f.files }

func (f joinFacts) withData() joinAction {
	switch {
	case f.member == memberNone:
		return joinRemoved
	case f.member == memberElsewhere:
		return joinMoved
	case f.voter && f.kubelet && f.files && f.marked:
		return joinDone
	}
	return joinResume
}

// joinFacts looks at the disk, and stops a kubelet that is about to change what is seen.
func (p plan) joinFacts(ctx context.Context) (joinFacts, error) {
	f := joinFacts{
		controlPlane: p.o.Identity.Node.Role == profile.ControlPlane,
		written:      p.done("kubeadm-join"),
		data:         p.m.hasLog(),
		files:        p.m.hasControlPlane(),
		kubelet:      p.hasKubelet(),
	}
	if !f.kubelet && exists(p.m.Root.Path(kubeletConfiguration)) {
		// It may be half-way through getting its certificate. One that was stopped does not get it behind our back, and its
		// Node becomes NotReady, which kubeadm asks for. Pods outlive it (KillMode=process).
		if err := p.m.kubelet(ctx, "stop"); err != nil {
			return f, err
		}
		f.kubelet = p.hasKubelet()
	}
	if f.controlPlane && f.data && f.files && f.kubelet && !f.written {
		f.marked = p.isMarked(ctx)
	}
	return f, nil
}

// hasLog tells whether etcd ever took part here: its write-ahead log then says so. Before that, what lies in its directory
// is of no worth.
func (m *Machine) hasLog() bool { return etcd.TookPart(m.Root.Path(kubeadm.EtcdData)) }

// hasControlPlane tells whether everything is there that makes a control plane run, nothing of it torn.
func (m *Machine) hasControlPlane() bool {
	for _, name := range []string{"admin.conf", "controller-manager.conf", "scheduler.conf", "manifests/etcd.yaml", "manifests/kube-apiserver.yaml",
		"manifests/kube-controller-manager.yaml", "manifests/kube-scheduler.yaml"} {
		if !filled(m.Root.Path(nodefs.Kubernetes + "/" + name)) {
			return false
		}
	}
	return true
}

// What kubeadm writes for the kubelet, beside its kubeconfig.
const (
	kubeletConfiguration = nodefs.KubeletState + "/config.yaml"
	kubeletFlags         = nodefs.KubeletState + "/kubeadm-flags.env"
)

// hasKubelet tells whether the kubelet has its configuration and a certificate of this cluster for this node that is valid
// for a while: kubeadm need not start it anew, and it needs no token.
func (p plan) hasKubelet() bool {
	for _, path := range []string{kubeletConfiguration, kubeletFlags} {
		if !filled(p.m.Root.Path(path)) {
			return false
		}
	}
	holder, err := node.ReadHolder(p.m.Root, nodefs.KubeletConfig)
	if err != nil || holder.User != "system:node:"+p.o.Identity.Node.Name || holder.Expires.Before(p.m.Now().Add(time.Minute)) {
		return false
	}
	own := p.o.Identity.Bootstrap.Authorities
	return own == nil || own.Cluster.Certificate == "" || sameText(holder.Authority, []byte(own.Cluster.Certificate))
}

func sameText(a, b []byte) bool { return bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) }

// isMarked asks this node's own API server, once.
func (p plan) isMarked(ctx context.Context) bool {
	client, err := p.m.client(p.o.Identity.Node.Address)
	if err != nil {
		return false
	}
	client.Patience = 0
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if client.Healthy(ctx) != nil {
		return false
	}
	current, err := client.Get(ctx, p.o.Identity.Node.Name)
	_, marked := current.Metadata.Labels[kubeadm.ControlPlaneTaint] // the role's label has the taint's key
	return err == nil && marked
}

// judge finds this node among etcd's members, by the address under which the others reach it, and by its name.
func (p plan) judge(members []etcd.Member) (membership, etcd.Member) {
	for _, m := range members {
		if m.HasPeer(etcd.PeerURL(p.o.Identity.Node.Address)) {
			if m.Started() {
				return memberStarted, m
			}
			return memberUnstarted, m
		}
	}
	for _, m := range members {
		if m.Name == p.o.Identity.Node.Name {
			return memberElsewhere, m
		}
	}
	return memberNone, etcd.Member{}
}
