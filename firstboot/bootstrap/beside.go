package bootstrap

import (
	"context"
	"slices"

	"github.com/kiln-os/kiln/firstboot/source"
)

// Beside looks for the identity, for the sake of the Ignition config around it; it changes nothing. Without network, only the
// machine itself is asked, and more says that the network may have what the machine has not. A live system that installs
// itself has no use for the config: what it leaves on the disk carries it.
func (m *Machine) Beside(ctx context.Context, network bool) (found source.Found, more bool, err error) {
	places, err := m.places()
	if err != nil {
		return source.Found{}, false, err
	}
	if !network {
		all := len(places.Sources)
		places.Sources = slices.DeleteFunc(places.Sources, func(s source.Source) bool { return !s.Offline })
		more = len(places.Sources) < all
	}
	f, err := m.search(ctx, places)
	if err != nil || f.Ignition == nil {
		return f, more, err
	}
	if _, live := m.live(); live {
		around := newFound(f)
		// An identity that is wrong is refused later, by the step that takes it on; nothing is done for it until then.
		if around.parse() != nil || m.installs(around.id) {
			f.Ignition, f.Asks = nil, nil
		}
	}
	return f, more, nil
}
