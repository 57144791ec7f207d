package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	// copied says that it is the copy that an earlier run made.
	copied bool
}

// findIdentity looks for the identity and checks it against the image. Once kubeadm has begun, the copy counts: a node
// does not become another one half-way. Before that, what the source says now counts, so that a mended identity is taken.
func (m *Machine) findIdentity(ctx context.Context, i image, begun bool) (found, error) {
	f, err := m.readCopy()
	if err != nil || !begun {
		fresh, freshErr := m.readSource(ctx)
		_, nowhere := errors.AsType[*source.NotFound](freshErr)
		switch {
		case freshErr == nil:
			f, err = fresh, nil
		case !nowhere || err != nil:
			return found{}, freshErr
		}
	}
	if f.id, err = cluster.ParseIdentity(f.from, f.text); err != nil {
		return found{}, err
	}
	return f, checkFits(f, i)
}

func (m *Machine) readSource(ctx context.Context) (found, error) {
	text, from, err := m.Find(ctx)
	return found{text: text, from: from}, err
}

// readCopy reads the copy of an earlier run. One that is missing or in pieces is as good as none.
func (m *Machine) readCopy() (found, error) {
	text, err := os.ReadFile(m.Root.Path(nodefs.IdentityCopy))
	if err == nil && !json.Valid(text) {
		err = fs.ErrNotExist
	}
	return found{text: text, from: nodefs.IdentityCopy, copied: true}, err
}

// checkFits compares the identity with the image, and with what this version can do.
func checkFits(f found, i image) error {
	p := &document.Problems{File: f.from}
	if f.id.Release != i.baked.Release {
		p.Add("release", "is %s, but this image carries %s; boot an image of %s or change the identity", f.id.Release, i.baked.Release, f.id.Release)
	}
	if f.id.Node.Role != i.baked.Role {
		p.Add("node.role", "is %s, but this image was built for %s (profile %s); boot an image for %s or change the identity",
			f.id.Node.Role, i.baked.Role, i.baked.Profile, f.id.Node.Role)
	} else if !f.id.Node.Initialise {
		p.Add("node.initialise", "is not set, and joining an existing cluster is not supported by this version of firstboot; "+
			"set it on a control-plane node to found a cluster")
	}
	return p.Err()
}

// saveCopy keeps the identity for later boots, which then need no source.
func (m *Machine) saveCopy(f found) error {
	if f.copied {
		return nil
	}
	text, err := yaml.YAMLToJSON(f.text)
	if err != nil {
		return fmt.Errorf("copying identity: %w", err)
	}
	path := m.Root.Path(nodefs.IdentityCopy)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("copying identity: %w", err)
	}
	return put(path, text, 0o600)
}
