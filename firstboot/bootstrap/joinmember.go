package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/mint"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// provideAuthorities sees to the files that every control plane shares: those of the identity, or those that lie in the
// cluster, encrypted with the identity's key.
func (j *joining) provideAuthorities(ctx context.Context) error {
	if j.staged() {
		_, err := j.authorities(ctx)
		return err
	}
	if err := j.dropForeignAuthorities(); err != nil {
		return err
	}
	for _, pair := range authorityPairs() {
		for _, name := range pair {
			if !filled(j.m.Root.Path(filepath.Join(nodefs.PKI, name))) {
				return j.runKubeadm(ctx, "join", "phase", "control-plane-prepare", "download-certs", "--config="+j.m.Root.Path(nodefs.KubeadmConfig))
			}
		}
	}
	return nil
}

// dropForeignAuthorities removes what was downloaded from another cluster, unless there is etcd data that hangs on it.
func (j *joining) dropForeignAuthorities() error {
	own := j.o.Identity.Bootstrap.Authorities
	have, err := os.ReadFile(j.m.Root.Path(nodefs.PKI + "/ca.crt"))
	if err != nil || len(have) == 0 || own == nil || own.Cluster.Certificate == "" || sameText(have, []byte(own.Cluster.Certificate)) {
		return nil
	}
	if j.facts.data {
		return Permanent{fmt.Errorf("%s/ca.crt is not the authority of the identity's cluster, and there is etcd data that hangs on it; "+
			"give the node the identity that it began with, or run `firstboot reset` on it", nodefs.PKI)}
	}
	if err := os.RemoveAll(j.m.Root.Path(nodefs.PKI)); err != nil {
		return fmt.Errorf("removing another cluster's authorities: %w", err)
	}
	return nil
}

func (p plan) authorityPair(certificate, key string) (mint.Pair, error) {
	first, err := os.ReadFile(p.m.Root.Path(filepath.Join(nodefs.PKI, certificate)))
	if err != nil {
		return mint.Pair{}, fmt.Errorf("reading certificate authority: %w", err)
	}
	second, err := os.ReadFile(p.m.Root.Path(filepath.Join(nodefs.PKI, key)))
	if err != nil {
		return mint.Pair{}, fmt.Errorf("reading certificate authority: %w", err)
	}
	return mint.Pair{Certificate: first, Key: second}, nil
}

// ask asks etcd which members it has, and finds this node among them. The own member is asked first: where there is one,
// the answer may depend on it, and no load balancer is in the way.
func (j *joining) ask(ctx context.Context) error {
	if err := j.provideAuthorities(ctx); err != nil {
		return err
	}
	authority, err := j.authorityPair("etcd/ca.crt", "etcd/ca.key")
	if err != nil {
		return err
	}
	if j.etcd, err = etcd.NewClient(authority, nil); err != nil {
		return err
	}
	var members []etcd.Member
	own := errors.New("not asked")
	if j.facts.data {
		j.etcd.Endpoints = []string{j.m.EtcdMember(j.o.Identity.Node.Address)}
		members, own = j.etcd.Members(ctx)
	}
	if own != nil {
		if err := j.findPeers(ctx); err != nil {
			return err
		}
		if members, err = j.etcd.Members(ctx); err != nil {
			return err
		}
	}
	j.facts.member, j.member = j.judge(members)
	j.facts.voter = j.facts.member == memberStarted && !j.member.IsLearner
	return nil
}

// findPeers asks the cluster's API where the members of etcd are. The cluster's authority makes its own administrator: the
// node has no kubeconfig yet.
func (j *joining) findPeers(ctx context.Context) error {
	if err := j.administrate(); err != nil {
		return err
	}
	urls, err := j.admin.EtcdURLs(ctx)
	if err != nil {
		return fmt.Errorf("asking for etcd's members: %w", err)
	}
	if len(urls) == 0 {
		return errors.New("asking for etcd's members: the cluster shows no pod of etcd yet")
	}
	j.etcd.Endpoints = append(j.etcd.Endpoints, urls...)
	return nil
}

func (j *joining) administrate() error {
	if j.admin != nil {
		return nil
	}
	authority, err := j.authorityPair("ca.crt", "ca.key")
	if err != nil {
		return err
	}
	j.admin, err = node.MintAdmin(j.m.Endpoint(j.o.Identity.Cluster.Endpoint), authority)
	return err
}

// makeRoom removes what the cluster remembers of a machine of this name whose disk is lost: a member of etcd, which would
// count for the quorum and must not come back without its log, and the Node. Of a Node that stays, a kubelet would take
// over neither providerID nor taints nor labels (kubelet, tryRegisterWithAPIServer); Kubernetes' own rule for a machine that
// was replaced is to delete the Node first (documentation, Nodes: node name uniqueness). Whoever lives keeps both.
func (j *joining) makeRoom(ctx context.Context) error {
	name := j.o.Identity.Node.Name
	current, err := j.admin.Get(ctx, name)
	known := err == nil
	switch {
	case node.HasCode(err, http.StatusNotFound):
	case err != nil:
		return fmt.Errorf("looking for a Node of this name: %w", err)
	case current.Condition("Ready").Status == "True":
		return fmt.Errorf("the cluster has a Node %s that is Ready, but this machine has nothing of it; if it was %s until a moment ago, the Node is "+
			"NotReady in a minute; else another machine has the name: give one of them another", name, name)
	}
	if j.facts.next() == joinReplace {
		if err := j.removeMember(ctx); err != nil {
			return err
		}
	}
	if !known {
		return nil
	}
	j.m.Report.say(event{step: "kubeadm-join", message: "deleting the Node " + name + " of a machine that is lost"})
	return j.admin.Delete(ctx, current)
}

// removeMember removes this node's member, which has lost its data. etcd itself refuses what would cost the quorum; then
// time may mend it, when another member comes back.
func (j *joining) removeMember(ctx context.Context) error {
	name := j.o.Identity.Node.Name
	if j.etcd.Answers(ctx, j.member.ClientURLs) {
		return fmt.Errorf("etcd has a member %s that answers at %s, but this machine has no data of it; another machine has this node's name or address: "+
			"give one of them another", j.member.Name, strings.Join(j.member.ClientURLs, ", "))
	}
	j.m.Report.say(event{step: "kubeadm-join", message: fmt.Sprintf("removing etcd's member %s (%x), whose data is lost", j.member.Name, j.member.ID)})
	if err := j.etcd.Remove(ctx, j.member.ID); err != nil {
		return fmt.Errorf("making room for %s: %w", name, err)
	}
	return nil
}

// etcd takes one learner at a time (DefaultMaxLearners). learnerPatience is how long one may take to start before its
// machine is taken for lost.
const learnerPatience = 20 * time.Minute

// queue waits until no other node is on its way into etcd: kubeadm would try for ten minutes, and say nothing. A learner
// that never starts is removed in the end; whoever announced it announces it again.
func (j *joining) queue(ctx context.Context) error {
	since := map[uint64]time.Time{}
	return j.m.wait(ctx, waiting{step: "kubeadm-join", first: time.Second, most: 3 * time.Second, look: func(ctx context.Context) (bool, string) {
		members, err := j.etcd.Members(ctx)
		if err != nil {
			return false, "waiting for etcd: " + err.Error()
		}
		other, found := j.learner(members)
		if !found {
			return true, ""
		}
		if since[other.ID].IsZero() {
			since[other.ID] = j.m.Now()
		}
		waited := j.m.Now().Sub(since[other.ID])
		seen := fmt.Sprintf("waiting for %s (%x) to become a voting member of etcd, which takes one at a time", strings.Join(other.PeerURLs, ", "), other.ID)
		if !other.Started() && waited > learnerPatience {
			err := j.etcd.Remove(ctx, other.ID)
			return false, fmt.Sprintf("%s; it did not start in %s and is removed (%v)", seen, learnerPatience, err)
		}
		return false, seen
	}})
}

// learner finds a learner that is not this node's.
func (j *joining) learner(members []etcd.Member) (etcd.Member, bool) {
	for _, m := range members {
		if m.IsLearner && !m.HasPeer(etcd.PeerURL(j.o.Identity.Node.Address)) {
			return m, true
		}
	}
	return etcd.Member{}, false
}
