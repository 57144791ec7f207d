package reset

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/reconcile"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// orForce turns an error into a note when the node leaves by force.
func (l *leaving) orForce(err error) (string, error) {
	if l.Force {
		return fmt.Sprintf("going on by force: %s", err), nil
	}
	return "", err
}

func (l *leaving) has(path string) bool {
	_, err := os.Lstat(l.m.Root.Path(path))
	return err == nil
}

// quorum asks etcd who stays, and whether they are enough.
func (l *leaving) quorum(ctx context.Context) (string, error) {
	// kubeadm adds the member to etcd after it wrote the administrator's kubeconfig, and its pod after that.
	if !l.has(nodefs.Manifests+"/etcd.yaml") && !l.has(nodefs.AdminConfig) {
		return "this node never was a member of etcd", nil
	}
	members, err := l.members(ctx, l.etcdURLs(ctx))
	if err != nil {
		return l.orForce(refusal{fmt.Errorf("etcd does not say who its members are, so whether the cluster outlives this node is not known: %w; to leave all the same: --force", err)})
	}
	client, err := l.m.Etcd(nil)
	if err != nil {
		return l.orForce(err)
	}
	stay, healthy := 0, 0
	for _, member := range members {
		if member.HasPeer(etcd.PeerURL(l.Address)) {
			continue
		}
		for _, at := range member.ClientURLs {
			if u, err := url.Parse(at); err == nil {
				l.Others = append(l.Others, u.Hostname())
			}
		}
		if member.IsLearner || !member.Started() {
			continue
		}
		stay++
		if len(member.ClientURLs) > 0 && client.Healthy(ctx, member.ClientURLs[0]) == nil {
			healthy++
		}
	}
	l.Last = stay == 0
	switch {
	case l.Last:
		return l.orForce(refusal{fmt.Errorf("%s is the cluster's last control plane, and the cluster would be gone with it; to end the cluster: --force", l.me)})
	case healthy < stay/2+1:
		return l.orForce(refusal{fmt.Errorf("of the %d members of etcd that would stay, %d are healthy, and %d have to be; mend them first, or leave all the same: --force", stay, healthy, stay/2+1)})
	}
	return fmt.Sprintf("%d of the %d members of etcd that stay are healthy", healthy, stay), nil
}

// etcdURLs are where etcd may answer: on this node, and where the cluster says that it has members.
func (l *leaving) etcdURLs(ctx context.Context) []string {
	urls := []string{etcd.ClientURL(l.Address)}
	if client, err := l.m.API(nodefs.AdminConfig, ""); err == nil {
		others, _ := client.EtcdURLs(ctx)
		urls = append(urls, others...)
	}
	return urls
}

func (l *leaving) members(ctx context.Context, urls []string) ([]etcd.Member, error) {
	client, err := l.m.Etcd(urls)
	if err != nil {
		return nil, err
	}
	return client.Members(ctx)
}

// etcdMember removes this node's member through one that stays: asked through its own, a member may be gone before it has
// answered. With the member gone, what is left of its data can be wiped without harm.
func (l *leaving) etcdMember(ctx context.Context) (string, error) {
	if len(l.Others) == 0 || !l.has(nodefs.PKI+"/etcd/ca.key") {
		return "there is nothing to take it out of", nil
	}
	var urls []string
	for _, address := range l.Others {
		urls = append(urls, etcd.ClientURL(address))
	}
	client, err := l.m.Etcd(urls)
	if err != nil {
		return l.orForce(err)
	}
	members, err := client.Members(ctx)
	if err != nil {
		return l.orForce(err)
	}
	for _, member := range members {
		if !member.HasPeer(etcd.PeerURL(l.Address)) {
			continue
		}
		if err := client.Remove(ctx, member.ID); err != nil {
			return l.orForce(err)
		}
		return fmt.Sprintf("member %x is removed; %d stay", member.ID, len(members)-1), nil
	}
	return "this node is no member any more", nil
}

// stopKubelet comes before the Node goes: a kubelet that starts again would make it anew.
func (l *leaving) stopKubelet(ctx context.Context) (string, error) {
	_, err := l.m.Runner.Run(ctx, command.Command{Name: nodefs.Systemctl, Args: []string{"stop", "kubelet.service"}})
	return "stopped", err
}

// nodeObject deletes the Node. A kubelet may not (NodeRestriction): a worker says on its Node that it has left, and a
// control plane's reconciler deletes that.
func (l *leaving) nodeObject(ctx context.Context) (string, error) {
	switch {
	case l.Last:
		return "the cluster ends with this node", nil
	case l.isControlPlane() && l.has(nodefs.AdminConfig):
		return l.deleteNode(ctx)
	case !l.isControlPlane() && l.Name != "" && l.has(nodefs.KubeletConfig):
		return l.sayLeft(ctx)
	}
	return "this node has no credentials of a cluster", nil
}

// deleteNode asks the control planes that stay, then the endpoint: behind that, the balancer may still choose this node's
// own API server, which has lost its etcd.
func (l *leaving) deleteNode(ctx context.Context) (string, error) {
	var problems []error
	servers := []string{}
	for _, address := range l.Others {
		servers = append(servers, serverAt(address))
	}
	for _, server := range append(servers, "") {
		client, err := l.m.API(nodefs.AdminConfig, server)
		if err == nil {
			err = l.deleteAt(ctx, client)
		}
		if err == nil {
			return l.Name + " is deleted", nil
		}
		problems = append(problems, err)
	}
	return l.orForce(errors.Join(problems...))
}

func (l *leaving) deleteAt(ctx context.Context, client *node.Client) error {
	for {
		current, err := client.Get(ctx, l.Name)
		if node.HasCode(err, http.StatusNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading node: %w", err)
		}
		// A conflict says that the Node was changed since: looked at again, it can be deleted.
		if err = client.Delete(ctx, current); !node.HasCode(err, http.StatusConflict) {
			return err
		}
	}
}

func (l *leaving) sayLeft(ctx context.Context) (string, error) {
	client, err := l.m.API(nodefs.KubeletConfig, "")
	if err != nil {
		return l.orForce(err)
	}
	err = client.Annotate(ctx, l.Name, map[string]string{reconcile.AnnotationLeft: l.m.Now().UTC().Format(time.RFC3339)})
	switch {
	case node.HasCode(err, http.StatusNotFound):
		return "there is no Node " + l.Name, nil
	case err != nil:
		return l.orForce(fmt.Errorf("%w; delete it with: kubectl delete node %s", err, l.Name))
	}
	return "a control plane will delete it", nil
}
