package reset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/step"
)

// leaving is a node on its way out.
type leaving struct {
	m *Machine
	Options
	me
	// Others are the addresses of the control planes that stay, as etcd's members tell.
	Others []string `json:"others,omitempty"`
	// Last says that no other control plane stays: the cluster ends with this one.
	Last bool `json:"last,omitempty"`
}

// me is who the node is.
type me struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	Address string `json:"address"`
}

// String implements fmt.Stringer.
func (n me) String() string {
	if n.Name == "" {
		return "this node"
	}
	return n.Name
}

func (n me) isControlPlane() bool { return n.Role == profile.ControlPlane }

// leaving reads who leaves and how: from the marker, when an earlier run has written it, or from what is left of the
// identity. The marker's options count, but --force may be added.
func (m *Machine) leaving(o Options) (l *leaving, begun bool, err error) {
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	l = &leaving{m: m, Options: o}
	text, err := os.ReadFile(m.Root.Path(nodefs.ResetMarker))
	switch {
	case err == nil:
		if json.Unmarshal(text, l) != nil {
			return nil, true, fmt.Errorf("%s: is not what a reset writes; remove it to keep the node, or run: firstboot reset --force", nodefs.ResetMarker)
		}
		l.Force = l.Force || o.Force
		return l, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("reading reset's marker: %w; ask as root", err)
	}
	l.me, err = m.readMe()
	if errors.Is(err, fs.ErrNotExist) && !o.Force {
		return nil, false, errors.New("this node has no identity, so there is no cluster to leave; to clear away what it has all the same: firstboot reset --force")
	}
	if err != nil && !o.Force {
		return nil, false, err
	}
	return l, false, nil
}

func (m *Machine) readMe() (me, error) {
	var id struct {
		Node me `json:"node"`
	}
	text, err := os.ReadFile(m.Root.Path(nodefs.IdentityCopy))
	if err != nil {
		return me{}, fmt.Errorf("reading identity: %w", err)
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return me{}, fmt.Errorf("%s: is no JSON; to leave all the same: firstboot reset --force", nodefs.IdentityCopy)
	}
	return id.Node, nil
}

// mark writes down that the node leaves. From here on there is no way back.
func (l *leaving) mark() error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("writing marker: %w", err)
	}
	path := l.m.Root.Path(nodefs.ResetMarker)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing marker: %w", err)
	}
	if err := renameio.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("writing marker: %w", err)
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

// asking is what comes before the node leaves: after a failure, it is still whole.
func (l *leaving) asking() step.List {
	var list step.List
	if l.isControlPlane() {
		list = append(list, step.Step{Name: "quorum", Does: "makes sure that the cluster outlives this control plane", Run: l.quorum})
	}
	return append(list, step.List{
		{Name: "drain", Does: fmt.Sprintf("keeps new pods off %s and evicts those that it has, for at most %s", l.me, l.DrainTimeout.Round(time.Second)), Run: l.drain},
		{Name: "marker", Does: "writes down that the node leaves: from here on a power cut does not stop it", Run: l.marker},
	}...)
}

// goodbye is what cannot be undone. Each step looks at what is there, so that all of them can run again.
func (l *leaving) goodbye() step.List {
	var list step.List
	if l.isControlPlane() {
		list = append(list, step.Step{Name: "etcd-member", Does: "takes this node out of etcd, through a member that stays", Run: l.etcdMember})
	}
	list = append(list, step.List{
		{Name: "kubelet", Does: "stops the kubelet", Run: l.stopKubelet},
		{Name: "node-object", Does: "deletes the Node, or asks the control planes to", Run: l.nodeObject},
		{Name: "pods", Does: "stops what still runs", Run: l.pods},
		{Name: "kubeadm-reset", Does: "undoes what kubeadm did to this machine", Run: l.kubeadmReset},
		{Name: "network", Does: "removes the pod network's interfaces and rules", Run: l.network},
	}...)
	if l.RemoveImages {
		list = append(list, step.Step{Name: "images", Does: "removes the container images that were pulled", Run: l.images})
	}
	return append(list, step.Step{Name: "wipe", Does: "removes the state and the secrets of " + l.String() + ", the marker last", Run: l.wipe})
}
