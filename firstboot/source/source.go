// Package source finds a node's identity. Where to look is set by the platform on the kernel command line and never
// guessed. Places on the machine itself come first; the network is asked only when they have nothing. The package is the
// home of Ignition's parser and of DHCP.
package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Source is one place that an identity may come from.
type Source struct {
	// Name says where that is, for people: it begins messages about what was found there.
	Name string
	// Offline says that the place is on the machine itself.
	Offline bool
	// Appears is how long the place may take to be there; zero for one that is there or is not.
	Appears time.Duration
	// Find looks once. ErrNothing, possibly wrapped with details, says that there is no identity; a document.Problem that
	// what is there is wrong; a refusal (see refused) that there is none yet; any other error that the place could not be read.
	Find func(ctx context.Context) (Found, error)
	// Metadata asks what the place knows of the machine. Nil where it knows nothing, or where Find says it.
	Metadata func(ctx context.Context) (Metadata, error)
}

// Found is an identity and what came with it.
type Found struct {
	// Text is the identity document, as it was written.
	Text []byte
	// From names the place.
	From string
	// Ignition is the whole Ignition config (JSON, spec 3.0 to 3.5) that held the identity, when it asks for more than that;
	// Asks then lists what. It is as secret as the identity.
	Ignition []byte
	Asks     []string
	// Metadata is what the platform says of the machine.
	Metadata Metadata
}

// same tells whether two places gave the same.
func (f Found) same(other Found) bool {
	return bytes.Equal(bytes.TrimSpace(f.Text), bytes.TrimSpace(other.Text)) && bytes.Equal(bytes.TrimSpace(f.Ignition), bytes.TrimSpace(other.Ignition))
}

// ErrNothing says that a source has no identity, so that the next one is asked.
var ErrNothing = errors.New("nothing here")

// errNotYet is ErrNothing where the place itself may still appear.
var errNotYet = fmt.Errorf("%w, yet", ErrNothing)

// nothing wraps ErrNothing with what was seen instead.
func nothing(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNothing, fmt.Sprintf(format, args...))
}

// maxBytes is the most that an identity or the config around it may have. With all four authorities it is about 15 KiB.
const maxBytes = 1 << 20

// Facts are what the machine is: what stands for the variables of a URL. An unknown one is empty.
type Facts struct {
	// Hostname is the name that the machine had before kiln named it.
	Hostname string
	// MACs are hardware addresses, in lower case with colons.
	MACs []string
	// UUID and Serial are the product's (DMI).
	UUID, Serial string
}

// Machine is what the sources touch of the machine.
type Machine struct {
	Root   nodefs.Root
	Runner command.Runner
	// Facts tells what the machine is; it is asked when a source needs it. Nil means that nothing is known.
	Facts func() Facts
	// Mount mounts a device read-only and returns its directory and what to call when done; nil means the kernel's mount.
	Mount func(device string) (directory string, done func(), err error)
	// Dial opens a connection (net.Dialer.DialContext); nil means the network's own.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Offers asks for DHCP offers; nil means on every interface that is up.
	Offers func(ctx context.Context, option DHCPOption) ([]Offer, error)
}

// facts are the machine's; none where nobody tells them.
func (m Machine) facts() Facts {
	if m.Facts == nil {
		return Facts{}
	}
	return m.Facts()
}
