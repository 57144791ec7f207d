package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// ownHost ends the line of /etc/hosts that firstboot has written.
const ownHost = " # this node"

// hosts is the name service that works without a network; kubeadm and others look the node's own name up. What else is in the
// file stays: it is the image's, or the user's.
func hosts(before, address, name string) string {
	text := "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" + address + " " + name + ownHost + "\n"
	for line := range strings.Lines(before) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasSuffix(line, ownHost) && !strings.Contains("\n"+text, "\n"+line+"\n") {
			text += line + "\n"
		}
	}
	return text
}

// hostname names the machine, for now and for later boots.
func (p plan) hostname(context.Context) (string, error) {
	name := p.o.Identity.Node.Name
	if err := p.m.rememberHostname(p.machine); err != nil {
		return "", err
	}
	before, err := os.ReadFile(p.m.Root.Path(nodefs.Hosts))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := put(p.m.Root.Path(nodefs.Hosts), []byte(hosts(string(before), p.o.Identity.Node.Address, name)), 0o644); err != nil {
		return "", err
	}
	if err := put(p.m.Root.Path(nodefs.Hostname), []byte(name+"\n"), 0o644); err != nil {
		return "", err
	}
	if err := p.m.SetHostname(name); err != nil {
		return "", fmt.Errorf("setting hostname: %w", err)
	}
	return name, nil
}

// synchronised is the file by which systemd-timesyncd says that it has the time from a server.
const synchronised = "/run/systemd/timesync/synchronized"

// clock waits for a time that can be true: certificates made with a clock that lies in the past are not valid yet for
// everybody else. The image's own timestamp is the earliest possible time; a real-time clock that works never waits.
func (p plan) clock(ctx context.Context) (string, error) {
	note := ""
	earliest := p.o.Baked.Timestamp
	err := p.m.wait(ctx, waiting{step: "clock", first: 50 * time.Millisecond, most: 2 * time.Second, look: func(context.Context) (bool, string) {
		now := p.m.Now()
		note = now.UTC().Format(time.RFC3339)
		if !now.Before(earliest) {
			return true, ""
		}
		if _, err := os.Stat(p.m.Root.Path(synchronised)); err == nil {
			note += ", as the time server says"
			return true, ""
		}
		return false, fmt.Sprintf("it is %s, before the image was made (%s); waiting for a time server or a set clock", note, earliest.UTC().Format(time.RFC3339))
	}})
	return note, err
}

// network waits until the node's address is on an interface that is up. What the identity says of links is set first.
func (p plan) network(ctx context.Context) (string, error) {
	if err := p.machineNetwork(ctx); err != nil {
		return "", err
	}
	want, err := netip.ParseAddr(p.o.Identity.Node.Address)
	if err != nil {
		return "", Permanent{err} // ParseIdentity has checked it
	}
	err = p.m.wait(ctx, waiting{step: "network", first: 20 * time.Millisecond, most: 250 * time.Millisecond, look: func(context.Context) (bool, string) {
		addresses, err := p.m.Addresses()
		if err != nil {
			return false, fmt.Sprintf("waiting for %s; the interfaces cannot be listed: %s", want, err)
		}
		var others []string
		for _, address := range addresses {
			if address.WithZone("") == want {
				return true, ""
			}
			others = append(others, address.String())
		}
		if len(others) == 0 {
			others = []string{"none"}
		}
		return false, fmt.Sprintf("waiting for %s on an interface; addresses there now: %s", want, strings.Join(others, ", "))
	}})
	return want.String(), err
}
