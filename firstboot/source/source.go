// Package source finds a node's identity. Where to look is set by the platform on the kernel command line and never
// guessed. It is the home of Ignition.
package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Source is one place that an identity may come from.
type Source struct {
	// Name says where that is, for people: it begins messages about what was found there.
	Name string
	// Find returns the identity document's text. ErrNothing, possibly wrapped with details, says that there is none; a
	// document.Problem says that what is there is wrong; any other error that the place could not be read.
	Find func(ctx context.Context) ([]byte, error)
}

// ErrNothing says that a source has no identity, so that the next one is asked.
var ErrNothing = errors.New("nothing here")

// maxBytes is the most that an identity or the config around it may have. With all four authorities it is about 15 KiB.
const maxBytes = 1 << 20

// Machine is what the sources touch of the machine.
type Machine struct {
	Root   nodefs.Root
	Runner command.Runner
	// Whole makes the sources return the Ignition config itself, with the identity in it.
	Whole bool
	// Mount mounts a device read-only and returns its directory and what to call when done; nil means the kernel's mount.
	Mount func(device string) (directory string, done func(), err error)
}

// ForPlatform lists the places where an image of platform looks, in order.
func ForPlatform(platform string, m Machine) ([]Source, error) {
	switch platform {
	case PlatformQEMU:
		return []Source{m.firmwareConfig(), m.partition()}, nil
	case PlatformMetal:
		return []Source{m.partition()}, nil
	}
	given := "is missing"
	if platform != "" {
		given = fmt.Sprintf("is %q", platform)
	}
	return nil, document.Problem{File: "kernel command line", Field: nodefs.ParamPlatform,
		Text: given + "; want " + PlatformQEMU + " or " + PlatformMetal + ": boot the image with its own kernel command line"}
}

// NotFound says that no source has an identity.
type NotFound struct {
	// Tried has one line for each source: its name and its answer.
	Tried []string
}

// Error implements error.
func (e *NotFound) Error() string {
	return "no identity found; tried:\n  " + strings.Join(e.Tried, "\n  ") +
		"\ngive the machine one of these (kiln's documentation, \"identity\") and boot it again"
}

// Find asks the sources in order and returns the first identity and the name of its source. The error is a *NotFound, a
// document.Problem, or says which source could not be read.
func Find(ctx context.Context, sources []Source) (text []byte, name string, err error) {
	var tried []string
	for _, s := range sources {
		text, err := s.Find(ctx)
		switch {
		case err == nil:
			return text, s.Name, nil
		case document.IsInvalid(err): // it names the place itself
			return nil, s.Name, err
		case !errors.Is(err, ErrNothing):
			return nil, s.Name, fmt.Errorf("reading identity from %s: %w", s.Name, err)
		}
		tried = append(tried, s.Name+": "+strings.TrimPrefix(err.Error(), ErrNothing.Error()+": "))
	}
	return nil, "", &NotFound{Tried: tried}
}

// nothing wraps ErrNothing with what was seen instead.
func nothing(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNothing, fmt.Sprintf(format, args...))
}
