//go:build cluster

package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/test/rung"
)

// Addresses of a fleet within rung.Network: the load balancer's, and those of control planes and workers from number 1 on.
const (
	balancerAddress     = "10.77.0.10"
	controlPlaneAddress = "10.77.0.1%d"
	workerAddress       = "10.77.0.2%d"
)

// fleet is a cluster's machines, its load balancer and its operator.
type fleet struct {
	world
	operator
	// identities is the directory that kiln cluster render made of the document, cluster.yaml.
	identities, document string
	balancer             *rung.Balancer
	names                []string
	machines             map[string]*rung.Node
}

// member is one node of a fleet.
type member struct {
	name, role, address string
	// uuid is the machine's product UUID; empty is one of its own.
	uuid string
}

// members are the nodes of a fleet: cp1, cp2, ... and worker1, worker2, ....
func members(controlPlanes, workers int) []member {
	var all []member
	for i := range controlPlanes {
		all = append(all, member{name: fmt.Sprintf("cp%d", i+1), role: controlPlane, address: fmt.Sprintf(controlPlaneAddress, i+1)})
	}
	for i := range workers {
		all = append(all, member{name: fmt.Sprintf("worker%d", i+1), role: worker, address: fmt.Sprintf(workerAddress, i+1)})
	}
	return all
}

// document is cluster.yaml for members; more is appended to it, as fields of the document.
func document(all []member, more string) string {
	text := fmt.Sprintf("apiVersion: kiln/v1alpha1\nkind: Cluster\nname: fleet\nrelease: %s\nendpoint: %s:6443\nnodes:\n", testedRelease, balancerAddress)
	for i, m := range all {
		text += fmt.Sprintf("- name: %s\n  role: %s\n  address: %s\n  zone: zone-%d\n", m.name, m.role, m.address, i%2)
		if i == 0 {
			text += "  initialise: true\n"
		}
		if m.role == worker {
			text += "  labels: {example.org/disk: fast, node-restriction.kubernetes.io/pci: \"yes\"}\n"
		}
	}
	return text + more
}

// backends are the control planes that a load balancer knows, those that are still to come included.
const backends = 3

// newFleet renders the cluster's identities and sets up its machines, which are off. The load balancer runs.
func (w world) newFleet(t *testing.T, name string, all []member, more string) *fleet {
	t.Helper()
	f := &fleet{world: w, identities: filepath.Join(t.TempDir(), "fleet"), machines: map[string]*rung.Node{}}
	f.document = f.identities + ".yaml"
	f.define(t, all, more)
	h := w.open(t, name)
	f.operator = operator{host: h, kubeconfig: filepath.Join(f.identities, "admin.conf")}
	for _, m := range all {
		f.add(t, m)
	}
	var behind []string
	for i := range backends {
		behind = append(behind, net.JoinHostPort(fmt.Sprintf(controlPlaneAddress, i+1), "6443"))
	}
	var err error
	f.balancer, err = h.Balancer(balancerAddress+":6443", behind...)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			f.logCluster(t)
		}
	})
	return f
}

// logCluster logs what the cluster says of itself, for a test that failed.
func (f *fleet) logCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, args := range [][]string{{"get", "nodes", "--output=wide"}, {"get", "pods", "--all-namespaces", "--output=wide"}} {
		out, err := f.try(ctx, args...)
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// define writes the document and renders it, as the operator does at first and after every change.
func (f *fleet) define(t *testing.T, all []member, more string) {
	t.Helper()
	must(t, os.WriteFile(f.document, []byte(document(all, more)), 0o644))
	f.kiln(t, "cluster", "render", f.document, "-o", f.identities)
}

// add adds a machine for a member, with the identity that was rendered for it.
func (f *fleet) add(t *testing.T, m member) {
	t.Helper()
	f.names = append(f.names, m.name)
	f.machines[m.name] = f.node(t, f.host, rung.NodeOptions{Name: m.name, Address: m.address, Image: f.image[m.role], Identity: identityOf(t, f.identities, m.name), UUID: m.uuid})
}

// identityOf is the Ignition config of a node in a directory of kiln cluster render.
func identityOf(t *testing.T, dir, name string) []byte {
	t.Helper()
	ignition, err := os.ReadFile(filepath.Join(dir, "nodes", name, "config.ign"))
	must(t, err)
	return ignition
}

// powerOn powers machines on at the same moment; none named means all.
func (f *fleet) powerOn(t *testing.T, names ...string) {
	t.Helper()
	f.each(t, names, func(n *rung.Node) error { return n.PowerOn(t.Context()) })
}

// powerOff cuts machines' power at the same moment; none named means all.
func (f *fleet) powerOff(t *testing.T, names ...string) {
	t.Helper()
	f.each(t, names, (*rung.Node).PowerOff)
}

func (f *fleet) each(t *testing.T, names []string, do func(*rung.Node) error) {
	t.Helper()
	if len(names) == 0 {
		names = f.names
	}
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { errs[i] = do(f.machines[name]) })
	}
	group.Wait()
	for _, err := range errs {
		must(t, err)
	}
}

// allReady is operator.allReady for machines by name.
func (f *fleet) allReady(names ...string) func(context.Context) error {
	var machines []*rung.Node
	for _, name := range names {
		machines = append(machines, f.machines[name])
	}
	return f.operator.allReady(machines...)
}

// etcdMembers lists etcd's members, by name, as the control plane called via sees them: what each is, and who is missing. Its
// pod may be away for a moment: those of a Node that is made anew are deleted, and the kubelet shows them again.
func (f *fleet) etcdMembers(t *testing.T, via string) map[string]etcdMember {
	t.Helper()
	var text string
	eventually(t, "etcd at "+via+" tells its members", time.Minute, func(ctx context.Context) (err error) {
		text, err = f.try(ctx, "--namespace=kube-system", "exec", "etcd-"+via, "--", "etcdctl", "--endpoints=https://127.0.0.1:2379",
			"--cacert=/etc/kubernetes/pki/etcd/ca.crt", "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
			"--key=/etc/kubernetes/pki/etcd/healthcheck-client.key", "member", "list", "--write-out=json")
		return err
	})
	var list struct{ Members []etcdMember }
	must(t, json.Unmarshal([]byte(text), &list))
	byName := map[string]etcdMember{}
	for _, m := range list.Members {
		if _, twice := byName[m.Name]; twice {
			t.Errorf("etcd has two members called %q", m.Name)
		}
		byName[m.Name] = m
	}
	return byName
}

type etcdMember struct {
	ID        uint64   `json:"ID"`
	Name      string   `json:"name"`
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner"`
}

// mustBeWhole fails unless the cluster is what its document says: each node once, each control plane one voter of etcd. The
// role of a worker is a control plane's to set, a moment after the worker is Ready.
func (f *fleet) mustBeWhole(t *testing.T, all []member) {
	t.Helper()
	eventually(t, "every node has its role", time.Minute, func(ctx context.Context) error {
		nodes, err := f.list(ctx, "nodes")
		if err != nil {
			return err
		}
		for _, m := range all {
			if _, has := nodes[m.name].Metadata.Labels["node-role.kubernetes.io/"+m.role]; !has {
				return fmt.Errorf("%s lacks the role %s", m.name, m.role)
			}
		}
		return nil
	})
	nodes := f.nodes(t)
	voters := f.etcdMembers(t, all[0].name)
	for _, m := range all {
		node, found := nodes[m.name]
		if !found {
			t.Errorf("%s is no node of the cluster", m.name)
			continue
		}
		if have := address(node); have != m.address {
			t.Errorf("%s has the address %s, want %s", m.name, have, m.address)
		}
		voter, votes := voters[m.name]
		if votes != (m.role == controlPlane) || voter.IsLearner {
			t.Errorf("%s is a voter of etcd: %t, a learner: %t", m.name, votes, voter.IsLearner)
		}
		delete(voters, m.name)
	}
	if len(voters) > 0 || len(nodes) != len(all) {
		t.Errorf("%d nodes, want %d; etcd also has the members %v", len(nodes), len(all), voters)
	}
}

func address(node object) string {
	for _, a := range node.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}
	return ""
}

// last are the last n lines of a text.
func last(text string, n int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
