package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/test/rung"
)

// benchEndpoint is the load balancer's, within rung.Network.
const benchEndpoint = "10.77.0.10:6443"

// member is one node of a cluster that is measured; the founder is the first of all.
type member struct {
	cluster.Identity
	ignition []byte
	admin    string
}

// render makes the cluster's document and from it its identities, anew.
func (s site) render(ctx context.Context, name string, shape shape) ([]member, error) {
	text := fmt.Sprintf("apiVersion: kiln/v1alpha1\nkind: Cluster\nname: bench\nrelease: v1.36\nendpoint: %s\nnodes:\n", benchEndpoint)
	var names []string
	add := func(name, role, address, more string) {
		names = append(names, name)
		text += fmt.Sprintf("- {name: %s, role: %s, address: %s%s}\n", name, role, address, more)
	}
	for i := range shape.controlPlanes {
		more := ""
		if i == 0 {
			more = ", initialise: true"
		}
		add(fmt.Sprintf("cp%d", i+1), profile.ControlPlane, fmt.Sprintf("10.77.0.%d", 11+i), more)
	}
	for i := range shape.workers {
		add(fmt.Sprintf("worker%d", i+1), profile.Worker, fmt.Sprintf("10.77.0.%d", 21+i), "")
	}
	dir := filepath.Join(s.dir, "identities", name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(dir), 0o700), os.WriteFile(dir+".yaml", []byte(text), 0o644)); err != nil {
		return nil, err
	}
	if _, _, err := kiln(ctx, "cluster", "render", dir+".yaml", "-o", dir); err != nil {
		return nil, err
	}
	var all []member
	for _, name := range names {
		m := member{admin: filepath.Join(dir, "admin.conf")}
		file := filepath.Join(dir, "nodes", name, "identity.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if m.Identity, err = cluster.ParseIdentity(file, text); err != nil {
			return nil, err
		}
		if m.ignition, err = os.ReadFile(filepath.Join(filepath.Dir(file), "config.ign")); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// fleet is the cluster's machines, with empty disks, and its load balancer, which runs.
type fleet struct {
	dir      string
	host     *rung.Host
	balancer *rung.Balancer
	members  []member
	nodes    []*rung.Node
}

func (s site) fleet(name string, members []member) (*fleet, error) {
	f := &fleet{dir: filepath.Join(s.dir, name), members: members}
	var err error
	if f.host, err = rung.Open(rung.Options{Dir: f.dir, Parts: s.parts, Firstboot: os.Getenv("KILN_FIRSTBOOT")}); err != nil {
		return nil, err
	}
	if err := f.rack(s); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fleet) rack(s site) error {
	var backends []string
	for _, m := range f.members {
		n, err := f.host.Node(rung.NodeOptions{Name: m.Node.Name, Address: m.Node.Address, Image: s.image[m.Node.Role], Identity: m.ignition})
		if err != nil {
			return err
		}
		f.nodes = append(f.nodes, n)
		if err := n.Wipe(); err != nil {
			return err
		}
		if m.Node.Role == profile.ControlPlane {
			backends = append(backends, net.JoinHostPort(m.Node.Address, "6443"))
		}
	}
	var err error
	f.balancer, err = f.host.Balancer(benchEndpoint, backends...)
	return err
}

// close ends all of it and empties the disks; consoles stay, for people to look at.
func (f *fleet) close() {
	err := f.host.Close()
	for _, n := range f.nodes {
		err = errors.Join(err, n.Wipe())
	}
	if err != nil {
		progress("closing %s: %v", f.dir, err)
	}
}

// disk is where this machine sees a path of the node's /var.
func (f *fleet) disk(m member, path string) string {
	return filepath.Join(f.dir, "nodes", m.Node.Name, "var", strings.TrimPrefix(path, "/var/"))
}

// powerOn powers all machines on at once.
func (f *fleet) powerOn(ctx context.Context) error {
	errs := make([]error, len(f.nodes))
	var group sync.WaitGroup
	for i, n := range f.nodes {
		group.Go(func() { errs[i] = n.PowerOn(ctx) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (f *fleet) kubectl(ctx context.Context, args ...string) (string, error) {
	return f.host.Kubectl(ctx, f.members[0].admin, args...)
}

// ready waits until these Nodes exist and are Ready. kubectl looks twice a second for Nodes that do not exist, and is told of
// the rest as it happens.
func (f *fleet) ready(ctx context.Context, members ...member) error {
	var names []string
	for _, m := range members {
		names = append(names, "node/"+m.Node.Name)
	}
	wait := func(what string) error {
		_, err := f.kubectl(ctx, append([]string{"wait", "--for=" + what, "--timeout=1h"}, names...)...)
		return err
	}
	err := eventually(ctx, func() error {
		if err := wait("create"); err != nil {
			return err
		}
		return wait("condition=Ready")
	})
	if err == nil {
		return nil
	}
	// How far it came is a number, too.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	states, _ := f.kubectl(late, "get", "nodes", "--no-headers")
	count := strings.Count(states, " Ready ")
	return fmt.Errorf("%d of %d nodes were Ready: %w\n%s", count, len(members), err, states)
}

// eventually tries twice a second until it works or ctx ends.
func eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// bounded is ctx for one boot of a cluster.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, longest, fmt.Errorf("it was not over after %s", longest))
}
