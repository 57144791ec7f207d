package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// bootDevice is the partition that the root is on, as the initramfs found it; "" on a live system.
func (m *Machine) bootDevice() string {
	var facts struct {
		RootDevice string          `json:"rootDevice"`
		Live       json.RawMessage `json:"live"`
	}
	text, err := os.ReadFile(m.Root.Path(nodefs.BootFacts))
	if err != nil || json.Unmarshal(text, &facts) != nil || facts.Live != nil {
		return ""
	}
	return facts.RootDevice
}

// search asks all places. On a disk that carries an identity for its first boot, the network is not asked: what an
// operator brings to the machine counts first (a stick, a virtual drive), then what the installer left.
func (m *Machine) search(ctx context.Context, s source.Search) (source.Found, error) {
	device := carried.Device(m.Root, m.bootDevice())
	if device == "" {
		return s.Find(ctx)
	}
	document, err := carried.Read(device)
	if errors.Is(err, carried.ErrNone) {
		return s.Find(ctx)
	}
	s.Sources = slices.DeleteFunc(s.Sources, func(at source.Source) bool { return !at.Offline })
	found, searchErr := s.Find(ctx)
	if _, nowhere := errors.AsType[*source.NotFound](searchErr); !nowhere {
		return found, searchErr
	}
	if err != nil {
		return source.Found{}, err
	}
	for _, name := range []string{nodefs.IgnitionFile, nodefs.IdentityFile} {
		if text, ok := document.Files[name]; ok {
			return source.Carried(fmt.Sprintf("%s, left by the installer, which found it at %s", name, document.From), text)
		}
	}
	return found, searchErr
}

// scrubCarried removes what the installer left.
func (m *Machine) scrubCarried() error {
	device := carried.Device(m.Root, m.bootDevice())
	if device == "" {
		return nil
	}
	return carried.Scrub(device)
}
