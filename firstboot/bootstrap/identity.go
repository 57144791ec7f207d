package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// image is what the builder baked into the root.
type image struct {
	baked   release.Baked
	profile profile.Profile
}

// readImage reads the baked documents. Nothing but another image mends what is wrong with them.
func (m *Machine) readImage() (image, error) {
	var i image
	text, err := os.ReadFile(m.Root.Path(nodefs.Node))
	if err != nil {
		return i, Permanent{fmt.Errorf("reading what the image knows of itself: %w; boot an image that kiln built", err)}
	}
	if err := json.Unmarshal(text, &i.baked); err != nil {
		return i, document.Problem{File: nodefs.Node, Text: err.Error() + "; build the image again"}
	}
	text, err = os.ReadFile(m.Root.Path(nodefs.Profile))
	if err != nil {
		return i, Permanent{fmt.Errorf("reading the image's profile: %w; boot an image that kiln built", err)}
	}
	i.profile, err = profile.Parse(nodefs.Profile, text)
	return i, err
}

// found is an identity and where it was.
type found struct {
	id   cluster.Identity
	text []byte
	from string
	// ignition is the whole Ignition config around the identity, when it asks for more than that.
	ignition []byte
	// copied says that it is the copy that an earlier run made.
	copied bool
	// metadata is what the platform said of the machine.
	metadata source.Metadata
	// warnings are what was wrong with it and could be left out.
	warnings []string
	// machine is what the machine is that took the identity on.
	machine Facts
}

// findIdentity looks for the identity, makes it this machine's and checks it against the image. Until kubeadm begins, what
// the source says now counts, so that a mended identity is taken. From then on the copy counts: a node does not become
// another one half-way. A node that joins still takes a renewed token from the same identity.
func (m *Machine) findIdentity(ctx context.Context, i image, journal *stepJournal) (found, error) {
	earlier, copyErr := m.readCopy()
	if copyErr == nil && journal.has("kubeadm-init", began) {
		return m.own(ctx, earlier, i)
	}
	fresh, err := m.readAgain(ctx, copyErr == nil && journal.has("kubeadm-join", began))
	if err != nil {
		if _, nowhere := errors.AsType[*source.NotFound](err); copyErr != nil || !nowhere && !journal.has("kubeadm-join", began) {
			return found{}, err
		}
		return m.own(ctx, earlier, i)
	}
	if copyErr == nil {
		fresh.keepName(earlier.id)
	}
	fresh, err = m.own(ctx, fresh, i)
	if copyErr == nil && journal.has("kubeadm-join", began) && (err != nil || !sameNode(fresh.id, earlier.id)) {
		return m.own(ctx, earlier, i)
	}
	return fresh, err
}

// own parses f unless that was done, makes it this machine's and checks that it fits.
func (m *Machine) own(ctx context.Context, f found, i image) (found, error) {
	if f.id.Kind == "" {
		if err := f.parse(); err != nil {
			return found{}, err
		}
	}
	f.machine = m.facts()
	if f.metadata.Hostname != "" {
		f.machine.Hostname = f.metadata.Hostname
	}
	f.warnings = append(f.warnings, f.metadata.Fill(&f.id.Node)...)
	var err error
	if m.installs(f.id) {
		f, err = m.asInstaller(f)
	} else {
		f.id, err = m.resolve(ctx, f.id, f.machine)
	}
	if err != nil {
		return found{}, err
	}
	return f, checkFits(f, i)
}

func (f *found) parse() (err error) {
	f.id, f.warnings, err = cluster.ParseIdentityOnNode(f.from, f.text)
	return err
}

// keepName gives a member of a pool the name that it took before: what the name was made from may have changed since, the
// hostname by kiln itself.
func (f *found) keepName(earlier cluster.Identity) {
	if f.parse() == nil && f.id.Node.Pool != "" && f.id.Node.Pool == earlier.Node.Pool && f.id.Cluster.Name == earlier.Cluster.Name {
		f.id.Node.Name = earlier.Node.Name
	}
}

// sameNode tells whether two identities make the same node of the same cluster: they may differ in their secrets that expire.
func sameNode(a, b cluster.Identity) bool {
	if a.Bootstrap.Authorities == nil || b.Bootstrap.Authorities == nil {
		return false
	}
	return a.Node.Name == b.Node.Name && a.Node.Address == b.Node.Address && a.Cluster.Name == b.Cluster.Name &&
		a.Cluster.Endpoint == b.Cluster.Endpoint && a.Bootstrap.Authorities.Cluster.Certificate == b.Bootstrap.Authorities.Cluster.Certificate
}

// readAgain is readSource, for a short time only when there is a copy that will do.
func (m *Machine) readAgain(ctx context.Context, briefly bool) (found, error) {
	if briefly {
		limited, cancel := context.WithTimeout(ctx, renewalLimit)
		defer cancel()
		ctx = limited
	}
	return m.readSource(ctx)
}

func (m *Machine) readSource(ctx context.Context) (found, error) {
	f, err := m.Find(ctx)
	return newFound(f), err
}

func newFound(f source.Found) found {
	return found{text: f.Text, from: f.From, ignition: f.Ignition, metadata: f.Metadata}
}

// readCopy reads the copy of an earlier run. One that is missing or in pieces is as good as none.
func (m *Machine) readCopy() (found, error) {
	text, err := os.ReadFile(m.Root.Path(nodefs.IdentityCopy))
	if err != nil {
		return found{}, err
	}
	f := found{text: text, from: nodefs.IdentityCopy, copied: true}
	return f, f.parse()
}

// checkFits compares the identity with the image.
func checkFits(f found, i image) error {
	p := &document.Problems{File: f.from}
	if f.id.Release != i.baked.Release {
		p.Add("release", "is %s, but this image carries %s; boot an image of %s or change the identity", f.id.Release, i.baked.Release, f.id.Release)
	}
	if f.id.Node.Role != i.baked.Role {
		p.Add("node.role", "is %s, but this image was built for %s (profile %s); boot an image for %s or change the identity",
			f.id.Node.Role, i.baked.Role, i.baked.Profile, f.id.Node.Role)
	}
	return p.Err()
}

// saveCopy keeps the identity for later boots, which then need no source. What the identity left open, the node's name and
// address in a pool and its place, is in it as it was found out.
func (m *Machine) saveCopy(f found) error {
	if f.copied {
		return nil
	}
	var text map[string]any
	if err := yaml.Unmarshal(f.text, &text); err != nil {
		return fmt.Errorf("copying identity: %w", err)
	}
	if node, ok := text["node"].(map[string]any); ok {
		n := f.id.Node
		for field, value := range map[string]string{"name": n.Name, "address": n.Address, "zone": n.Zone, "region": n.Region, "providerID": n.ProviderID} {
			if value != "" {
				node[field] = value
			}
		}
	}
	rendered, err := json.Marshal(text)
	if err != nil {
		return fmt.Errorf("copying identity: %w", err)
	}
	path := m.Root.Path(nodefs.IdentityCopy)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("copying identity: %w", err)
	}
	return put(path, rendered, 0o600)
}
