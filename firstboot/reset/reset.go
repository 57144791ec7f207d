// Package reset takes a node out of its cluster and makes it what it was before its first boot: drained, no member of etcd
// any more, without a Node object, without state and secrets. It can be cut off at any point and goes on: up to the marker
// nothing is lost yet, and from the marker on the node leaves, at the next boot if need be.
package reset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/mint"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// Options is how a node leaves.
type Options struct {
	// DrainTimeout is how long the pods may take to go; default DefaultDrainTimeout.
	DrainTimeout time.Duration `json:"drainTimeout"`
	// Force leaves although the cluster cannot be asked, pods do not go, or there is no control plane after this one.
	Force bool `json:"force"`
	// RemoveImages also removes the container images that were pulled. Those of the node image always stay.
	RemoveImages bool `json:"removeImages"`
}

// DefaultDrainTimeout is how long pods may take to go unless Options say otherwise.
const DefaultDrainTimeout = 5 * time.Minute

// Members is what is asked of etcd.
type Members interface {
	Members(ctx context.Context) ([]etcd.Member, error)
	Remove(ctx context.Context, id uint64) error
	Healthy(ctx context.Context, url string) error
}

// Machine is what leaving touches: the real one on a node, one with other ends in a test.
type Machine struct {
	Root   nodefs.Root
	Runner command.Runner
	// Out gets a line for each step done and each thing that is waited for.
	Out io.Writer
	Now func() time.Time
	// Etcd is a client of the members at these URLs.
	Etcd func(endpoints []string) (Members, error)
	// API is a client with the credentials of the kubeconfig at path; an empty server means the kubeconfig's own.
	API func(path, server string) (*node.Client, error)
	// SetHostname names the machine.
	SetHostname func(name string) error
	// Sync waits until what was written is on the disks.
	Sync func()
	// Pause is how long to wait after a step's first failure; each further pause is twice as long, up to half a minute.
	Pause time.Duration
	// Patience is how long a step may fail before Run gives up; Resume never does.
	Patience time.Duration
}

// OnNode is the machine that the program runs on, with its files below root.
func OnNode(root nodefs.Root, out io.Writer) *Machine {
	m := &Machine{Root: root, Runner: command.Exec{}, Out: out, Now: time.Now, Sync: unix.Sync, Pause: 2 * time.Second, Patience: 2 * time.Minute}
	m.SetHostname = func(name string) error { return unix.Sethostname([]byte(name)) }
	m.Etcd = func(endpoints []string) (Members, error) {
		authority, err := m.etcdAuthority()
		if err != nil {
			return nil, err
		}
		return etcd.NewClient(authority, endpoints)
	}
	m.API = func(path, server string) (*node.Client, error) {
		client, err := node.Open(root, path, server)
		if err != nil {
			return nil, err
		}
		client.HTTP.Timeout, client.Patience = 15*time.Second, 10*time.Second
		return client, nil
	}
	return m
}

func (m *Machine) etcdAuthority() (pair mint.Pair, err error) {
	if pair.Certificate, err = os.ReadFile(m.Root.Path(nodefs.PKI + "/etcd/ca.crt")); err != nil {
		return pair, fmt.Errorf("reading etcd's certificate authority: %w", err)
	}
	if pair.Key, err = os.ReadFile(m.Root.Path(nodefs.PKI + "/etcd/ca.key")); err != nil {
		return pair, fmt.Errorf("reading etcd's certificate authority: %w", err)
	}
	return pair, nil
}

// serverAt is the URL of the API server of the control plane with this address.
func serverAt(address string) string {
	return "https://" + net.JoinHostPort(address, strconv.Itoa(kubeadm.BindPort))
}

// Run leaves the cluster, or goes on with what an earlier run began. Every error may be tried again.
func (m *Machine) Run(ctx context.Context, o Options) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, begun, err := m.leaving(o)
	if err != nil {
		return err
	}
	list := l.goodbye()
	if !begun {
		list = append(l.asking(), list...)
	}
	if err := m.each(ctx, list, m.Patience); err != nil {
		return err
	}
	fmt.Fprintf(m.Out, "%s has left its cluster. It joins again, under the same name, at the next boot or after: systemctl restart firstboot.service\n", l.me)
	return nil
}

// Resume finishes what a power cut interrupted, and does nothing on a node that is not leaving. It has to be called at
// every boot, before anything else is done for the cluster. It tries for as long as it takes, and says so; only ctx ends it.
func (m *Machine) Resume(ctx context.Context) error {
	if _, err := os.Lstat(m.Root.Path(nodefs.ResetMarker)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, _, err := m.leaving(Options{})
	if err != nil {
		return err
	}
	fmt.Fprintf(m.Out, "reset: %s was leaving its cluster when it went off; going on\n", l.me)
	return m.each(ctx, l.goodbye(), 0)
}

// DryRun prints the steps that Run would run, and changes nothing.
func (m *Machine) DryRun(o Options) error {
	l, begun, err := m.leaving(o)
	if err != nil {
		return err
	}
	list := l.goodbye()
	if !begun {
		list = append(l.asking(), list...)
	}
	for i, s := range list {
		fmt.Fprintf(m.Out, "%2d  %-14s  %s\n", i+1, s.Name, s.Does)
	}
	return nil
}

// each runs the steps in order, each again and again until it is done or has failed for as long as patience; 0 is for ever.
func (m *Machine) each(ctx context.Context, list step.List, patience time.Duration) error {
	for _, s := range list {
		if err := m.do(ctx, s, patience); err != nil {
			return err
		}
	}
	return nil
}

// refusal is an error that no second try within the same run mends.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (m *Machine) do(ctx context.Context, s step.Step, patience time.Duration) error {
	begin := time.Now()
	for pause := m.Pause; ; pause = min(2*pause, 30*time.Second) {
		note, err := s.Run(ctx)
		if err == nil {
			fmt.Fprintf(m.Out, "reset: %s: %s\n", s.Name, note)
			return nil
		}
		_, refused := errors.AsType[refusal](err)
		if refused || ctx.Err() != nil || patience > 0 && time.Since(begin)+pause > patience {
			return fmt.Errorf("reset: %s: %w", s.Name, err)
		}
		fmt.Fprintf(m.Out, "reset: %s: %s; again in %s\n", s.Name, err, pause)
		select {
		case <-ctx.Done():
			return fmt.Errorf("reset: %s: %w", s.Name, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// lock keeps a first boot and another reset away: it is that of the first boot's journal.
func (m *Machine) lock() (unlock func(), err error) {
	path := m.Root.Path(nodefs.Journal)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		file.Close()
		return nil, errors.New("the first boot or another reset is running; wait for its end, or stop it: systemctl stop firstboot.service")
	}
	return func() { file.Close() }, nil
}
