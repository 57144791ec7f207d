// Package bootstrap turns a freshly booted machine into a cluster's first node: an ordered list of named steps, each
// safe to be killed at any point and to run again. What was done is written to a journal, but facts beat the journal.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/azure"
	"github.com/kiln-os/kiln/firstboot/endpoint"
	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/fence"
	"github.com/kiln-os/kiln/firstboot/install"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Machine is what the steps touch: the real one on a node, one with other ends in a test.
type Machine struct {
	Root   nodefs.Root
	Runner command.Runner
	Report *Report
	// Find looks for the identity, names the place where it was, and tells what came with it.
	Find func(ctx context.Context) (source.Found, error)
	Now  func() time.Time
	// Uptime is seconds since the kernel started.
	Uptime func() float64
	// Addresses are those of interfaces that are up.
	Addresses   func() ([]netip.Addr, error)
	SetHostname func(name string) error
	// APIServer is the URL of the API server that the node with this address runs itself.
	APIServer func(address string) string
	// Endpoint is the URL of an endpoint (host:port).
	Endpoint func(endpoint string) string
	// EtcdMember is the URL at which the etcd member on the node with this address answers clients.
	EtcdMember func(address string) string
	// KubeletHealth is where the node's own kubelet tells its health.
	KubeletHealth string
	// WireServer is told on Azure that the machine is ready.
	WireServer azure.WireServer
	// Fence changes the fence's options; nil leaves them.
	Fence func(o *fence.Options)
	// Look looks at the cluster through its endpoint; nil is the real way.
	Look func(ctx context.Context, c endpoint.Cluster) endpoint.Observation
	// Installer makes the installer of a live system; nil is the real one.
	Installer func(r install.Request) *install.Installer
	// Pause is how long to wait after a step's first failure; each further pause is twice as long, up to a minute.
	Pause time.Duration
}

// OnNode is the machine that the program runs on, with its files below root.
func OnNode(root nodefs.Root, report *Report) *Machine {
	m := &Machine{
		Root: root, Runner: command.Exec{}, Report: report,
		Now: time.Now, Uptime: uptime, Addresses: upAddresses, Pause: 5 * time.Second,
		SetHostname: func(name string) error { return unix.Sethostname([]byte(name)) },
		APIServer: func(address string) string {
			return fmt.Sprintf("https://%s", net.JoinHostPort(address, fmt.Sprint(kubeadm.BindPort)))
		},
		Endpoint:      func(endpoint string) string { return "https://" + endpoint },
		EtcdMember:    etcd.ClientURL,
		KubeletHealth: "http://127.0.0.1:10248/healthz",
		WireServer:    azure.OfHost(),
	}
	m.Find = m.findOnPlatform
	return m
}

// findOnPlatform asks the places that the kernel command line's platform has.
func (m *Machine) findOnPlatform(ctx context.Context) (source.Found, error) {
	places, err := m.places()
	if err != nil {
		return source.Found{}, err
	}
	return m.search(ctx, places)
}

// places are those that the kernel command line's platform has.
func (m *Machine) places() (source.Search, error) {
	commandLine, err := os.ReadFile(m.Root.Path("/proc/cmdline"))
	if err != nil {
		return source.Search{}, fmt.Errorf("reading kernel command line: %w", err)
	}
	platform := source.Parameter(string(commandLine), nodefs.ParamPlatform)
	sources, err := source.ForPlatform(platform, source.Machine{Root: m.Root, Runner: m.Runner, Facts: func() source.Facts {
		f := m.facts()
		return source.Facts{Hostname: f.Hostname, MACs: f.MACs, UUID: f.UUID, Serial: f.Serial}
	}})
	if err != nil {
		return source.Search{}, err
	}
	budget, err := source.BudgetOn(string(commandLine))
	return source.Search{Sources: sources, Budget: budget, Say: func(text string) {
		m.Report.say(event{step: "identity", message: text})
	}}, err
}

func uptime() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

func upAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		networks, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, network := range networks {
			if prefix, err := netip.ParsePrefix(network.String()); err == nil {
				addresses = append(addresses, prefix.Addr())
			}
		}
	}
	return addresses, nil
}

// Permanent is an error that no retry can mend: firstboot ends with exit code 78.
type Permanent struct{ Err error }

// Error implements error.
func (p Permanent) Error() string { return p.Err.Error() }

// Unwrap gives the error itself.
func (p Permanent) Unwrap() error { return p.Err }

// IsPermanent reports whether err needs a person: a document that is wrong, an identity that is nowhere.
func IsPermanent(err error) bool {
	_, permanent := errors.AsType[Permanent](err)
	_, notFound := errors.AsType[*source.NotFound](err)
	return permanent || notFound || document.IsInvalid(err)
}

// client talks to this node's own API server as the cluster's administrator.
func (m *Machine) client(address string) (*node.Client, error) {
	admin, err := os.ReadFile(m.Root.Path(nodefs.AdminConfig))
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	return node.NewClient(m.APIServer(address), admin)
}

// bootID identifies this boot; "" where the kernel does not say.
func (m *Machine) bootID() string {
	text, _ := os.ReadFile(m.Root.Path("/proc/sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(text))
}

// waiting is something that time can mend.
type waiting struct {
	step string
	// first is the pause after the first look; each further pause is half as long again, up to most.
	first, most time.Duration
	// look reports whether the wait is over and, if not, what is seen instead.
	look func(ctx context.Context) (over bool, seen string)
}

// visible is how often a wait says what it is waiting for.
const visible = 10 * time.Second

// wait looks until there is nothing to wait for, and says every ten seconds what it sees. Only ctx ends it otherwise.
func (m *Machine) wait(ctx context.Context, w waiting) error {
	said := time.Now()
	for pause := w.first; ; pause = min(pause*3/2, w.most) {
		over, seen := w.look(ctx)
		if over {
			return nil
		}
		if time.Since(said) >= visible {
			said = time.Now()
			m.Report.say(event{step: w.step, message: seen})
			m.Report.status("%s: %s", w.step, seen)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
