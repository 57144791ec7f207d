package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// tries is how many workers wait for an endpoint of each kind, one after the other.
const tries = 3

// patience is how long a worker has waited before its endpoint comes up: long enough that it looks as rarely as it ever does.
const patience = 15 * time.Second

// outage is a way in which an endpoint is not there.
type outage struct {
	name       string
	begin, end func(context.Context) error
}

// joined is how long a worker took from the moment that its endpoint came up.
type joined struct{ endpoint, node, kubeadm, ready time.Duration }

// waiting measures how soon a worker that waits joins once its endpoint is there.
func (s site) waiting(ctx context.Context, t *table) error {
	load := loadNow()
	members, err := s.render(ctx, waitingWorker, shape{1, 2 * tries})
	if err != nil {
		return err
	}
	f, err := s.fleet("join", members)
	if err != nil {
		return err
	}
	defer f.close()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := f.nodes[0].PowerOn(ctx); err != nil {
		return err
	}
	if err := f.bootDone(ctx, members[0]); err != nil {
		return err
	}
	t.row(fmt.Sprintf("a worker that waits, %d tries; load at start %s", tries, load), "endpoint seen s", "Node exists s", "kubeadm done s", "Node Ready s", "")
	next := 1
	for _, o := range []outage{
		{"endpoint refused connections", func(context.Context) error { f.balancer.Stop(); return nil }, func(context.Context) error { return f.balancer.Start() }},
		{"endpoint lost packets", f.balancer.Drop, f.balancer.Pass},
	} {
		var all []joined
		for range tries {
			one, err := f.joinAfter(ctx, next, o)
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			progress("%s: Node of %s after %.1f s", o.name, members[next].Node.Name, one.node.Seconds())
			all = append(all, one)
			next++
		}
		row := []any{o.name + ", median (worst)"}
		for _, of := range []func(joined) time.Duration{
			func(j joined) time.Duration { return j.endpoint }, func(j joined) time.Duration { return j.node },
			func(j joined) time.Duration { return j.kubeadm }, func(j joined) time.Duration { return j.ready },
		} {
			var values []time.Duration
			for _, one := range all {
				values = append(values, of(one))
			}
			slices.Sort(values)
			row = append(row, fmt.Sprintf("%s (%s)", tenths(values[len(values)/2]), tenths(values[len(values)-1])))
		}
		t.row(append(row, "aim: Node in less than 5 s")...)
	}
	return nil
}

// complains is what a worker says on its console while it waits.
var complains = regexp.MustCompile(`^endpoint: .*(nobody listens|refused|did not answer)`)

// joinAfter powers worker i on while the endpoint is not there, lets it wait, and ends the outage.
func (f *fleet) joinAfter(ctx context.Context, i int, o outage) (joined, error) {
	m, n := f.members[i], f.nodes[i]
	if err := o.begin(ctx); err != nil {
		return joined{}, err
	}
	if err := n.PowerOn(ctx); err != nil {
		return joined{}, err
	}
	if _, err := n.WaitConsole(ctx, complains, time.Minute); err != nil {
		return joined{}, err
	}
	select {
	case <-ctx.Done():
		return joined{}, context.Cause(ctx)
	case <-time.After(patience):
	}
	begin := time.Now()
	if err := o.end(ctx); err != nil {
		return joined{}, err
	}
	var j joined
	err := eventually(ctx, func() error {
		_, err := f.kubectl(ctx, "wait", "--for=create", "--timeout=5m", "node/"+m.Node.Name)
		return err
	})
	j.node = time.Since(begin)
	if err == nil {
		err = f.ready(ctx, m)
		j.ready = time.Since(begin)
	}
	if err == nil {
		err = f.bootDone(ctx, m)
	}
	if err != nil {
		return j, err
	}
	records, err := f.journal(m)
	seen, _ := find(records, "endpoint", "done")
	done, _ := find(records, "kubeadm-join", "done")
	j.endpoint, j.kubeadm = seen.Time.Sub(begin), done.Time.Sub(begin)
	return j, err
}

// bootDone waits until a node's first boot is done, so that nothing of it is in the way of what is measured next.
func (f *fleet) bootDone(ctx context.Context, m member) error {
	return eventually(ctx, func() error {
		records, err := f.journal(m)
		if _, done := find(records, "first-boot", "done"); err == nil && !done {
			err = fmt.Errorf("the first boot of %s is not done", m.Node.Name)
		}
		return err
	})
}
