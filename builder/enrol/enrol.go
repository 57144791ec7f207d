// Package enrol makes the identities of a cluster's machines from the cluster's definition and its secrets. It is pure:
// the same definition and secrets give the same bytes.
package enrol

import (
	"net/url"
	"path"
	"strings"

	"github.com/kiln-os/kiln/builder/authority"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/profile"
)

// Directories of what is enrolled, below that of the cluster.
const (
	NodesDir = "nodes"
	PoolsDir = "pools"
)

// Member is one machine, or a pool of machines that share an identity.
type Member struct {
	// Dir is where its files belong, as in nodes/cp1.
	Dir string
	// Identity and Ignition are secrets: keep them at mode 0600.
	Identity []byte
	Ignition []byte
	// Links are the names under which a boot server finds a machine that it knows by its hardware, as in
	// by-mac/52-54-00-12-34-56. Each is to be a symbolic link to ../Dir.
	Links []string
}

// LinkDirs are the directories that Links may lie in.
func LinkDirs() []string { return []string{"by-mac", "by-uuid", "by-serial", "by-hostname"} }

// Options are what identities are made from.
type Options struct {
	Definition cluster.Definition
	Secrets    authority.Secrets
	// Set is the secrets' authorities, opened.
	Set authority.Set
}

// Members makes every identity and has each checked as the node will check it.
func Members(o Options) ([]Member, error) {
	var members []Member
	for _, node := range o.Definition.Nodes {
		member, err := o.member(path.Join(NodesDir, node.Name), o.node(node))
		if err != nil {
			return nil, err
		}
		member.Links = links(node.Match)
		members = append(members, member)
	}
	for _, pool := range o.Definition.Pools {
		member, err := o.member(path.Join(PoolsDir, pool.Name), o.pool(pool))
		if err != nil {
			return nil, err
		}
		members = append(members, member)
	}
	return members, nil
}

func (o Options) member(dir string, id cluster.Identity) (Member, error) {
	var err error
	if id.Node.Registration, err = o.Set.Register(statement(id)); err != nil {
		return Member{}, err
	}
	member := Member{Dir: dir}
	if member.Identity, err = authority.RenderIdentity(dir, id); err != nil {
		return Member{}, err
	}
	member.Ignition, err = authority.Ignition(member.Identity)
	return member, err
}

func (o Options) node(node cluster.DefinedNode) cluster.Identity {
	id := o.identity(node.Common)
	n := &id.Node
	n.Name, n.Role, n.Initialise, n.Match = node.Name, node.Role, node.Initialise, node.Match
	n.Address, n.SecondaryAddress = node.Address, node.SecondaryAddress
	if n.Role == profile.ControlPlane && n.Taints == nil && !*o.Definition.IsolateControlPlanes {
		// kubeadm takes an empty list for no taints, and none for the control plane's own.
		n.Taints = &[]profile.Taint{}
	}
	if n.Initialise {
		id.Cluster.ControlPlanes = o.founding()
	}
	id.Bootstrap = o.bootstrap(id.Node)
	return id
}

func (o Options) pool(pool cluster.Pool) cluster.Identity {
	id := o.identity(pool.Common)
	n := &id.Node
	n.Name, n.Pool, n.Role, n.Subnet = pool.NodeName, pool.Name, pool.Role, pool.Subnet
	id.Bootstrap = o.bootstrap(id.Node)
	return id
}

// identity is what all members have in common.
func (o Options) identity(c cluster.Common) cluster.Identity {
	return cluster.Identity{
		Release: o.Definition.Release,
		Node: cluster.Node{
			Zone: c.Zone, Region: c.Region, Labels: c.Labels, Taints: c.Taints, ProviderID: c.ProviderID, Kubelet: c.Kubelet, Network: c.Network,
		},
		Cluster: o.Definition.Cluster(),
		Install: c.Install,
	}
}

// founding are the control planes that were planned when the secrets were made, as far as they are planned still. A control
// plane that comes later is not among them, so that it changes no other node's identity.
func (o Options) founding() []cluster.ControlPlane {
	var planes []cluster.ControlPlane
	for _, name := range o.Secrets.Founding {
		for _, node := range o.Definition.ControlPlanes() {
			if node.Name == name {
				planes = append(planes, cluster.ControlPlane{Name: name, Address: node.Address})
			}
		}
	}
	return planes
}

// bootstrap gives a node the secrets that its part in the cluster takes, and no others.
func (o Options) bootstrap(n cluster.Node) cluster.Bootstrap {
	b := cluster.Bootstrap{
		Token: o.Secrets.Token, TokenTTL: o.Definition.TokenTTL,
		Authorities: &cluster.Authorities{Cluster: cluster.KeyPair{Certificate: o.Secrets.Authorities.Cluster.Certificate}},
	}
	if n.Role != profile.ControlPlane {
		return b
	}
	uploaded := o.Definition.Certificates == cluster.Uploaded
	if uploaded {
		b.CertificateKey = o.Secrets.CertificateKey
	}
	if !uploaded || n.Initialise {
		whole := o.Secrets.Authorities
		b.Authorities = &whole
	}
	return b
}

// statement is what the operator lets the node be: what a kubelet may not say of itself.
func statement(id cluster.Identity) cluster.Statement {
	n := id.Node
	s := cluster.Statement{Cluster: id.Cluster.Name, Node: n.Name, Pool: n.Pool, Role: n.Role}
	for key, value := range n.AllLabels() {
		if profile.KubeletMaySet(key) {
			continue
		}
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels[key] = value
	}
	if n.Taints != nil {
		s.Taints = *n.Taints
	}
	return s
}

// links follow the names that boot servers make of hardware: addresses with dashes, as in pxelinux.cfg.
func links(m *cluster.Match) []string {
	if m == nil {
		return nil
	}
	var found []string
	for i, name := range []string{strings.ReplaceAll(m.MAC, ":", "-"), m.UUID, url.PathEscape(m.Serial), m.Hostname} {
		if name != "" {
			found = append(found, path.Join(LinkDirs()[i], name))
		}
	}
	return found
}
