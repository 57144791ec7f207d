package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// leaseMetric is systemd-networkd's own for routes from DHCP; static routes come before them.
const leaseMetric = 1024

// answer is what came of asking on a link.
type answer struct {
	link  string
	lease Lease
	err   error
}

// leases asks on every link that wants DHCP, at once. Links that come or get a carrier meanwhile are asked, too.
func (u *up) leases(ctx context.Context) error {
	named, every := u.dhcpLinks()
	if len(named) == 0 && !every {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	asked := map[string]bool{}
	ask := func(link string) {
		if asked[link] {
			return
		}
		asked[link] = true
		u.Say("network: asking for an address on %s", link)
		go func() {
			lease, err := u.DHCP.Lease(ctx, link)
			select {
			case answers <- answer{link, lease, err}:
			case <-ctx.Done():
			}
		}()
	}
	var failed []string
	var enough <-chan time.Time
	for {
		for _, link := range u.ready(named, every) {
			ask(link)
		}
		select {
		case a := <-answers:
			if a.err == nil {
				a.err = u.take(ctx, a)
			}
			if a.err != nil {
				failed = append(failed, fmt.Sprintf("%s: %s", a.link, a.err))
				continue
			}
			if enough == nil {
				enough = time.After(others)
			}
			if len(u.result.Leases) >= u.most(named, every) {
				return nil
			}
		case <-enough:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("no DHCP server answered, %w; asked on: %s", context.Cause(ctx), strings.Join(slices.Concat(keys(asked), failed), "; "))
		case <-time.After(poll):
		}
	}
}

func keys(asked map[string]bool) []string {
	var names []string
	for name := range asked {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return []string{"no interface, for none has a carrier"}
	}
	return names
}

// dhcpLinks are the named links that want DHCP, and whether every physical one does.
func (u *up) dhcpLinks() (named []string, every bool) {
	for _, l := range u.Config.Links {
		switch {
		case l.DHCP && l.Name == "":
			every = true
		case l.DHCP:
			named = append(named, u.name(l.Name))
		}
	}
	return named, every
}

// most is how many leases there can be at all: one that has no carrier yet may lead to the server.
func (u *up) most(named []string, every bool) int {
	if !every {
		return len(named)
	}
	interfaces, _ := u.Kernel.Interfaces()
	return len(slices.DeleteFunc(interfaces, func(i Interface) bool { return !i.Physical && !slices.Contains(named, i.Name) }))
}

// ready lists links to ask on: those of them that have a carrier. Every physical link is switched on first, since only then its
// carrier shows.
func (u *up) ready(named []string, every bool) []string {
	u.Plug()
	interfaces, err := u.Kernel.Interfaces()
	if err != nil {
		return nil
	}
	var links []string
	for _, i := range interfaces {
		switch {
		case !slices.Contains(named, i.Name) && !(every && i.Physical):
		case i.Carrier:
			links = append(links, i.Name)
		default:
			_ = u.Kernel.Do(Operation{Verb: "up", Link: i.Name})
		}
	}
	return links
}

// take sets what a server gave.
func (u *up) take(ctx context.Context, a answer) error {
	var list []Operation
	if a.lease.MTU != 0 {
		list = append(list, Operation{Verb: "mtu", Link: a.link, MTU: a.lease.MTU})
	}
	list = append(list, Operation{Verb: "address", Link: a.link, Address: a.lease.Address})
	for _, route := range a.lease.Routes {
		// Of several default routes, that of the server which answered first counts.
		route.Metric = leaseMetric + len(u.result.Leases)
		list = append(list, Operation{Verb: "route", Link: a.link, Route: route})
	}
	for _, o := range list {
		if err := u.do(ctx, o); err != nil {
			return err
		}
	}
	u.result.Leases[a.link] = a.lease
	u.result.DNS = append(u.result.DNS, a.lease.DNS...)
	u.Say("network: %s has %s from %s", a.link, a.lease.Address, a.lease.Server)
	return nil
}
