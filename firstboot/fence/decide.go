package fence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kiln-os/kiln/firstboot/endpoint"
)

// decider is one decision in the making.
type decider struct {
	Options
	// claim is nil in a node that may not found, or cannot prove who it is.
	claim *Claim
	// silent counts how often in a row a rival did not answer.
	silent map[string]int
	// others counts how often in a row another cluster was seen.
	others int
	said   string
	saidAt time.Time
}

// enoughOthers is how often another cluster has to be seen: a balancer may be about to be turned round.
const enoughOthers = 3

// decide goes round until it knows. In each round all are asked at once.
func (d *decider) decide(ctx context.Context) (Decision, error) {
	began := time.Now()
	for {
		seen := d.round(ctx)
		if ctx.Err() != nil {
			return Decision{}, fmt.Errorf("asking who founds the cluster: %w", context.Cause(ctx))
		}
		if rival, found := d.founding(); found {
			return Decision{}, d.yield(ctx, rival)
		}
		if len(seen.ours) > 0 {
			return d.living(ctx, seen.ours)
		}
		if seen.other == nil {
			d.others = 0
		} else if d.others++; d.others >= enoughOthers {
			return Decision{}, d.describe(ctx, seen.other)
		}
		if d.YieldedTo != "" {
			return Decision{}, &Rival{Name: d.YieldedTo, State: yieldedTo, Namesake: d.YieldedTo == d.Name}
		}
		if seen.other == nil && (d.complete() || time.Since(began) >= d.Pace.Linger) {
			if decision, err := d.begin(ctx); err != nil || decision.Action != 0 {
				return decision, err
			}
		}
		d.pause(ctx)
	}
}

// describe adds what the other cluster tells about itself.
func (d *decider) describe(ctx context.Context, other *OtherCluster) *OtherCluster {
	_, seen := endpoint.Cluster{Endpoint: other.Seen, Authority: d.Authority, Dial: d.Dial}.Public(ctx)
	if seen.State == endpoint.OtherCluster {
		other.Presented = seen.Presented
	}
	return other
}

// complete reports whether the list of control planes is one that others have too, or does not matter.
func (d *decider) complete() bool {
	if d.claim == nil {
		return true
	}
	for _, planned := range d.ControlPlanes {
		if planned.Address == d.Address {
			return true
		}
	}
	return false
}

func (d *decider) begin(ctx context.Context) (Decision, error) {
	if d.claim == nil {
		return Decision{Action: Found}, nil
	}
	rival, yield, begun := d.claim.table.begin()
	switch {
	case begun:
		return Decision{Action: Found, Claim: d.claim}, nil
	case yield:
		return Decision{}, d.yield(ctx, rival)
	}
	d.say(fmt.Sprintf("%s at %s would found the cluster too; waiting until it has yielded", rival.Name, rival.Address))
	return Decision{}, nil
}

// round asks the other candidates and the places where the cluster may live.
func (d *decider) round(ctx context.Context) life {
	var seen life
	var asking sync.WaitGroup
	asking.Go(func() { seen = d.look(ctx) })
	if d.claim != nil {
		asking.Go(func() { d.askAll(ctx) })
	}
	asking.Wait()
	return seen
}

// askAll asks the planned hosts and whoever made itself known. A rival that does not answer is gone: at once when its
// address refuses, otherwise at the second time.
func (d *decider) askAll(ctx context.Context) {
	table := d.claim.table
	rivals := table.seen()
	hosts := d.hosts()
	for _, rival := range rivals {
		hosts = append(hosts, rival.Address)
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	failures := make([]error, len(hosts))
	heard := make([]candidate, len(hosts))
	var asking sync.WaitGroup
	for i, host := range hosts {
		asking.Go(func() { heard[i], failures[i] = d.claim.ask(ctx, host) })
	}
	asking.Wait()
	if d.silent == nil {
		d.silent = map[string]int{}
	}
	for _, rival := range rivals {
		i := slices.Index(hosts, rival.Address)
		switch {
		case failures[i] == nil && heard[i].Run == rival.Run:
			d.silent[rival.Run] = 0
		case failures[i] == nil && heard[i].Run != table.self().Run:
			table.gone(rival) // another process answers at its address
		case errors.Is(failures[i], syscall.ECONNREFUSED):
			table.gone(rival)
		default:
			if d.silent[rival.Run]++; d.silent[rival.Run] >= 2 {
				table.gone(rival)
			}
		}
	}
}

// founding finds a rival that initialises already.
func (d *decider) founding() (candidate, bool) {
	if d.claim != nil {
		for _, rival := range d.claim.table.seen() {
			if rival.founding() {
				return rival, true
			}
		}
	}
	return candidate{}, false
}

// yield gives way for good. It is on the disk before anybody is told: the other node may go on then.
func (d *decider) yield(ctx context.Context, to candidate) error {
	if err := d.remember(to.Name); err != nil {
		return err
	}
	d.withdraw(ctx)
	return &Rival{Name: to.Name, Address: to.Address, State: string(to.State), Namesake: to.Name == d.Name}
}

func (d *decider) remember(name string) error {
	if d.Remember == nil {
		return nil
	}
	if err := d.Remember(name); err != nil {
		return fmt.Errorf("writing down that %s founds the cluster: %w", name, err)
	}
	return nil
}

// withdraw tells all rivals that this node does not found now.
func (d *decider) withdraw(ctx context.Context) {
	if d.claim == nil {
		return
	}
	d.claim.table.set(yielded)
	var telling sync.WaitGroup
	for _, rival := range d.claim.table.seen() {
		telling.Go(func() { _, _ = d.claim.ask(ctx, rival.Address) })
	}
	telling.Wait()
}

// living waits until a cluster that lives says who founded it. From here on this node does not found any more, whatever
// becomes of the cluster.
func (d *decider) living(ctx context.Context, at []string) (Decision, error) {
	d.withdraw(ctx)
	var since time.Time
	for {
		for _, address := range at {
			record, seen := endpoint.Cluster{Endpoint: address, Authority: d.Authority, Dial: d.Dial}.Public(ctx)
			switch {
			case record.Founder == d.Name:
				return Decision{Action: Join, Founder: d.Name, Seen: address}, nil
			case record.Founder != "":
				return Decision{}, d.late(record.Founder, address)
			case seen.State == endpoint.Ready && since.IsZero():
				since = time.Now()
			case seen.State == endpoint.Ready && time.Since(since) >= d.Pace.Record:
				return Decision{Action: Join, Seen: address}, nil
			}
			d.say(fmt.Sprintf("this cluster lives already; waiting until it says who founded it: %s", seen.Message))
		}
		d.pause(ctx)
		again := d.round(ctx)
		if ctx.Err() != nil {
			return Decision{}, fmt.Errorf("asking who founded the cluster: %w", context.Cause(ctx))
		}
		if rival, found := d.founding(); found {
			return Decision{}, d.yield(ctx, rival)
		}
		if len(again.ours) > 0 {
			at = again.ours
		}
	}
}

// late gives way to a node that has founded already; also that is remembered, for it may be switched off next time.
func (d *decider) late(founder, at string) error {
	if err := d.remember(founder); err != nil {
		return err
	}
	return &FoundedByOther{Founder: founder, Seen: at}
}

// pause lasts until the next round is due or a rival makes itself known.
func (d *decider) pause(ctx context.Context) {
	var news <-chan struct{}
	if d.claim != nil {
		news = d.claim.table.news
	}
	select {
	case <-ctx.Done():
	case <-news:
	case <-time.After(d.Pace.Round):
	}
}

// say says the same again only every 10 s.
func (d *decider) say(line string) {
	if head, _, _ := strings.Cut(line, ":"); head != d.said || time.Since(d.saidAt) >= 10*time.Second {
		d.said, d.saidAt = head, time.Now()
		d.Options.Say(line)
	}
}
