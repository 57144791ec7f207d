package rung

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
)

// namespace is a network namespace, and possibly a mount namespace, that lives as long as the process that holds it. It
// has no name below /run/netns: what has no name cannot be left behind.
type namespace struct {
	holder *command.Process
	// entries are nsenter's options.
	entries []string
}

// newNamespace makes one; kinds are unshare's options beside --net.
func (h *Host) newNamespace(kinds ...string) (*namespace, error) {
	args := append([]string{"--net"}, kinds...)
	holder, err := command.Exec{}.Start(h.ctx, command.Command{Name: "unshare", Args: append(args, "sleep", "infinity"), Stderr: os.Stderr}, false)
	if err != nil {
		return nil, err
	}
	n := &namespace{holder: holder, entries: []string{"--target=" + strconv.Itoa(holder.PID), "--net"}}
	if len(kinds) > 0 {
		n.entries = append(n.entries, "--mount")
	}
	// unshare has made them once it has become the program that holds them.
	if err := await(h.ctx, shortly, func() bool { return comm(holder.PID) == "sleep" }); err != nil {
		holder.Kill()
		return nil, fmt.Errorf("making network namespace: %w", err)
	}
	return n, nil
}

// command is args, run within the namespace.
func (n *namespace) command(args ...string) command.Command {
	return command.Command{Name: "nsenter", Args: append(append(append([]string{}, n.entries...), "--"), args...)}
}

func (n *namespace) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, shortly)
	defer cancel()
	if _, err := (command.Exec{}).Run(ctx, n.command(args...)); err != nil {
		return fmt.Errorf("running %v: %w", args, err)
	}
	return nil
}

func (n *namespace) end() { n.holder.Kill() }

// port is the switch's end of a cable.
type port struct {
	host *Host
	name string
}

// connect lays a cable from the switch to eth0 of the network namespace of process pid.
func (h *Host) connect(name, mac string, pid int) (port, error) {
	p := port{host: h, name: name}
	line := []string{"ip", "link", "add", name, "type", "veth", "peer", "name", "eth0"}
	if mac != "" {
		line = append(line, "address", mac)
	}
	if err := h.segment.run(h.ctx, append(line, "netns", strconv.Itoa(pid))...); err != nil {
		return p, err
	}
	return p, errors.Join(p.plug(), h.segment.run(h.ctx, "ip", "link", "set", name, "up"))
}

// plug puts the cable into the switch; unplug takes it out, but leaves the link up at the other end: a carrier that is
// lost is noticed by the node, a network that is partitioned is not.
func (p port) plug() error {
	return p.host.segment.run(p.host.ctx, "ip", "link", "set", p.name, "master", "br0")
}
func (p port) unplug() error {
	return p.host.segment.run(p.host.ctx, "ip", "link", "set", p.name, "nomaster")
}

// remove takes the cable away, both ends at once. The kernel would do so too once the namespace is gone, but later.
func (p port) remove() {
	if p.host != nil {
		_ = p.host.segment.run(p.host.ctx, "ip", "link", "delete", p.name)
	}
}

// comm is the name of the program that process pid runs, or "".
func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if len(text) == 0 {
		return ""
	}
	return string(text[:len(text)-1])
}

// await looks every few milliseconds until true, for at most limit.
func await(ctx context.Context, limit time.Duration, look func() bool) error {
	deadline := time.Now().Add(limit)
	for !look() {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case time.Now().After(deadline):
			return fmt.Errorf("not seen within %s", limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// kill ends the process and waits until its number is free.
func kill(pid int) error {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	return nil
}
