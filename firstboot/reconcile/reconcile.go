// Package reconcile is what every control plane does for the cluster's nodes after its own first boot: it sets the labels
// that a kubelet may not give itself and that the operator has signed for, finds machines that are there twice, removes
// nodes that have left, and keeps the uploaded certificates alive while control planes are expected. All control planes
// do the same at once: each looks before it writes, and writes only what is missing.
package reconcile

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// Pace is how long the reconciler waits for what.
type Pace struct {
	// FirstBoot is the pause between two looks at whether this node's first boot is over.
	FirstBoot time.Duration
	// Settle is how long changes are collected before they are acted upon, at least; at most it is twice as long, by
	// chance, so that of several control planes one is the first and the others find it done.
	Settle time.Duration
	// Tick is the pause between two looks at what changes without a Node changing.
	Tick time.Duration
	// Pause is the first pause after a failure; each further one is twice as long, up to MostPause.
	Pause, MostPause time.Duration
	// Renew is how long a list of the Nodes is followed before a new one is asked for: what a watch has missed is mended.
	Renew time.Duration
	// Left is how long a Node that says that it has left may look alive.
	Left time.Duration
	// Upload is how old uploaded certificates become; kubeadm lets them live for two hours.
	Upload time.Duration
}

// Reconciler works for the cluster that its node belongs to.
type Reconciler struct {
	Root   nodefs.Root
	Runner command.Runner
	// Out gets one line for each change that is made, and for each thing that goes wrong.
	Out io.Writer
	// FirstBootDone tells whether this node's first boot is over.
	FirstBootDone func() bool
	// Connect makes a client of the API server at a URL for the cluster's administrator.
	Connect func(server string) (API, error)
	// Server is the URL of the API server that the node with this address runs itself.
	Server func(address string) string
	Now    func() time.Time
	Pace   Pace

	// known is what was found out about Nodes, by name.
	known map[string]*known
	// trouble is what goes wrong at present and was said.
	trouble map[string]bool
	// missing are the control planes that were said to be missing.
	missing string
}

// OnNode is the reconciler of the machine that the program runs on, with its files below root.
func OnNode(root nodefs.Root, out io.Writer, firstBootDone func() bool) *Reconciler {
	return &Reconciler{
		Root: root, Runner: command.Exec{}, Out: out, FirstBootDone: firstBootDone, Now: time.Now,
		Connect: func(server string) (API, error) { return connect(root, server) },
		Server: func(address string) string {
			return "https://" + net.JoinHostPort(address, strconv.Itoa(kubeadm.BindPort))
		},
		Pace: Pace{FirstBoot: 5 * time.Second, Settle: 300 * time.Millisecond, Tick: 5 * time.Second, Pause: time.Second,
			MostPause: time.Minute, Renew: 15 * time.Minute, Left: time.Minute, Upload: 30 * time.Minute},
	}
}

// Run works until ctx ends. On a node that is no control plane it returns at once: there is nothing to do, ever. Failures
// are said once and tried again; only an image that does not say what it is for is an error.
func (r *Reconciler) Run(ctx context.Context) error {
	role, err := readRole(r.Root)
	if err != nil || role != profile.ControlPlane {
		return err
	}
	pause := r.Pace.Pause
	for ctx.Err() == nil {
		if !r.ready() {
			sleep(ctx, r.Pace.FirstBoot)
			continue
		}
		worked, err := r.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if worked {
			pause = r.Pace.Pause
		}
		if err != nil {
			r.complain(asking, err)
		}
		sleep(ctx, jitter(pause))
		pause = min(2*pause, r.Pace.MostPause)
	}
	return nil
}

// asking is what a session that does not begin, or breaks, is about.
const asking = "asking the API server for the nodes"

// ready tells whether the node's first boot is over and it is still a control plane: after `firstboot reset` it is not.
func (r *Reconciler) ready() bool {
	if _, err := os.Stat(r.Root.Path(nodefs.AdminConfig)); err != nil {
		return false
	}
	return r.FirstBootDone()
}

// session lists the Nodes and follows them. worked says that there was an answer.
func (r *Reconciler) session(ctx context.Context) (worked bool, err error) {
	f, err := readFacts(r.Root)
	if err != nil {
		return false, err
	}
	api, err := r.Connect(r.Server(f.address))
	if err != nil {
		return false, err
	}
	// The list comes first, and whole: half of it would tell that a machine is not there twice any more.
	nodes, _, err := api.List(ctx, "")
	if err != nil {
		return false, err
	}
	r.recovered(asking)
	return true, newSession(r, api, f, nodes).run(ctx)
}

// say prints one line.
func (r *Reconciler) say(format string, args ...any) {
	fmt.Fprintf(r.Out, format+"\n", args...)
}

// complain says what goes wrong, once: an API server that is down for days must not fill the journal.
func (r *Reconciler) complain(doing string, err error) {
	if r.trouble == nil {
		r.trouble = map[string]bool{}
	}
	if !r.trouble[doing] {
		r.say("%s: %s; trying again until it works", doing, err)
	}
	r.trouble[doing] = true
}

// recovered says that what went wrong does so no more.
func (r *Reconciler) recovered(doing string) {
	if r.trouble[doing] {
		r.say("%s: it works again", doing)
	}
	delete(r.trouble, doing)
}

// jitter is between a half and the whole of d: control planes that lose their API servers at once do not ask as one.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
