package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Kernel is the machine's network.
type Kernel interface {
	// Interfaces lists what there is.
	Interfaces() ([]Interface, error)
	// Do makes one change. What is so already is no error.
	Do(o Operation) error
}

// Leaser asks for addresses.
type Leaser interface {
	// Lease asks on a link until a server answers or ctx ends.
	Lease(ctx context.Context, link string) (Lease, error)
}

// Options say how to bring up a network.
type Options struct {
	Config Config
	Kernel Kernel
	DHCP   Leaser
	// Wait bounds everything together.
	Wait time.Duration
	// Plug loads drivers for devices that have come to light.
	Plug func()
	// Say tells the person in front of the machine what is going on.
	Say func(format string, args ...any)
}

// Result is the network as it came up.
type Result struct {
	// Config is what was asked for, with the links' names replaced by hardware addresses where the machine has them.
	Config Config
	// Leases are by link.
	Leases map[string]Lease
	// DNS are all name servers.
	DNS []netip.Addr
}

const (
	poll = 50 * time.Millisecond
	// others is how long leases on further links are waited for once there is one.
	others = 2 * time.Second
)

// Up brings the network up. It returns with the first lease, and those that come shortly after, or when all static
// addresses are set. The error says what each link was like.
func Up(ctx context.Context, o Options) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Wait, fmt.Errorf("waited for %s", o.Wait))
	defer cancel()
	if len(o.Config.Links) == 0 {
		o.Config.Links = []Link{{DHCP: true}}
	}
	u := &up{Options: o, names: map[string]string{}, result: Result{Leases: map[string]Lease{}, DNS: slices.Clone(o.Config.DNS)}}
	if err := u.make(ctx); err != nil {
		return u.result, u.describe(err)
	}
	u.result.Config = u.lasting()
	if err := u.leases(ctx); err != nil {
		return u.result, u.describe(err)
	}
	return u.result, nil
}

type up struct {
	Options
	// names maps names in the config to the kernel's.
	names  map[string]string
	result Result
}

// make finds the links that are named, makes bonds and VLANs, and sets what is static.
func (u *up) make(ctx context.Context) error {
	if err := u.find(ctx); err != nil {
		return err
	}
	for _, link := range ordered(u.Config.Links) {
		if link.Name == "" {
			continue
		}
		for _, o := range u.operations(link) {
			if err := u.do(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// ordered puts bonds before VLANs, and those before links: each may lie on the ones before it.
func ordered(links []Link) []Link {
	rank := func(l Link) int {
		switch {
		case l.Bond != nil:
			return 0
		case l.VLAN != nil:
			return 1
		}
		return 2
	}
	links = slices.Clone(links)
	slices.SortStableFunc(links, func(a, b Link) int { return rank(a) - rank(b) })
	return links
}

// operations lists what has to be done for one link.
func (u *up) operations(l Link) []Operation {
	name := u.name(l.Name)
	var list []Operation
	if l.Bond != nil {
		list = append(list, Operation{Verb: "bond", Link: name, Bond: l.Bond})
		for _, member := range l.Bond.Links {
			list = append(list, Operation{Verb: "join", Link: u.name(member), Master: name}, Operation{Verb: "up", Link: u.name(member)})
		}
	}
	if l.VLAN != nil {
		parent := u.name(l.VLAN.Parent)
		list = append(list, Operation{Verb: "up", Link: parent}, Operation{Verb: "vlan", Link: name, VLAN: &VLAN{ID: l.VLAN.ID, Parent: parent}})
	}
	if l.MTU != 0 {
		list = append(list, Operation{Verb: "mtu", Link: name, MTU: l.MTU})
	}
	list = append(list, Operation{Verb: "up", Link: name})
	for _, address := range l.Addresses {
		list = append(list, Operation{Verb: "address", Link: name, Address: address})
	}
	return append(list, gateways(name, l)...)
}

// gateways are the default routes of a link. A gateway outside the link's networks is reached on the link all the same.
func gateways(name string, l Link) []Operation {
	var list []Operation
	for _, gateway := range l.Gateways {
		host := netip.PrefixFrom(gateway, gateway.BitLen())
		if !gateway.IsLinkLocalUnicast() && !slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(gateway) }) {
			list = append(list, Operation{Verb: "route", Link: name, Route: Route{Network: host}})
		}
		list = append(list, Operation{Verb: "route", Link: name, Route: Route{Network: everywhere(gateway), Gateway: gateway}})
	}
	return list
}

func everywhere(like netip.Addr) netip.Prefix {
	if like.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// do tries an operation until it works: a link may be busy for a moment after it came.
func (u *up) do(ctx context.Context, o Operation) error {
	for {
		err := u.Kernel.Do(o)
		if err == nil {
			return nil
		}
		if pause(ctx, poll) != nil {
			return fmt.Errorf("setting %s: %w", o, err)
		}
	}
}

// find waits for every link of the machine that the config names.
func (u *up) find(ctx context.Context) error {
	var wanted []string
	made := map[string]bool{}
	for _, l := range u.Config.Links {
		if l.Bond != nil {
			wanted = append(wanted, l.Bond.Links...)
		}
		if l.VLAN != nil {
			wanted = append(wanted, l.VLAN.Parent)
		}
		made[l.Name] = l.Bond != nil || l.VLAN != nil
		wanted = append(wanted, l.Name)
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == "" || made[name] })
	for {
		u.Plug()
		interfaces, err := u.Kernel.Interfaces()
		if err != nil {
			return err
		}
		var missing []string
		for _, name := range wanted {
			at := slices.IndexFunc(interfaces, func(i Interface) bool { return i.Physical && i.is(name) })
			if at < 0 {
				missing = append(missing, name)
				continue
			}
			u.names[name] = interfaces[at].Name
		}
		if len(missing) == 0 {
			return nil
		}
		if err := pause(ctx, poll); err != nil {
			return fmt.Errorf("%w for the interface %s", err, strings.Join(missing, ", "))
		}
	}
}

// name is the kernel's name of what the config calls name.
func (u *up) name(name string) string {
	if found := u.names[name]; found != "" {
		return found
	}
	return name
}

// lasting is the config with links named by their hardware addresses: systemd gives them other names.
func (u *up) lasting() Config {
	interfaces, _ := u.Kernel.Interfaces()
	last := func(name string) string {
		for _, i := range interfaces {
			if i.Physical && i.Name == u.name(name) && i.MAC != "" {
				return i.MAC
			}
		}
		return name
	}
	config := Config{DNS: u.Config.DNS}
	for _, l := range u.Config.Links {
		l.Name = last(l.Name)
		if l.Bond != nil {
			bond := *l.Bond
			bond.Links = nil
			for _, member := range l.Bond.Links {
				bond.Links = append(bond.Links, last(member))
			}
			l.Bond = &bond
		}
		if l.VLAN != nil {
			l.VLAN = &VLAN{ID: l.VLAN.ID, Parent: last(l.VLAN.Parent)}
		}
		config.Links = append(config.Links, l)
	}
	return config
}

// describe adds to an error what the machine's links are like.
func (u *up) describe(err error) error {
	interfaces, listErr := u.Kernel.Interfaces()
	var lines []string
	for _, i := range interfaces {
		if i.Physical {
			state := "no carrier: is its cable connected?"
			if i.Carrier {
				state = "has a carrier"
			}
			lines = append(lines, fmt.Sprintf("  %s %s %s", i.Name, i.MAC, state))
		}
	}
	if len(lines) == 0 && listErr == nil {
		lines = []string{"  none: does the Image document's modules name the network card's driver?"}
	}
	return errors.Join(fmt.Errorf("%w\nNetwork interfaces seen:\n%s", err, strings.Join(lines, "\n")), listErr)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
