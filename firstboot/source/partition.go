package source

import (
	"errors"
	"io/fs"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// partition reads an identity from a filesystem or partition labelled KILN: identity.yaml, or else config.ign.
func (m Machine) partition() Source {
	name := "partition labelled " + nodefs.LabelIdentity
	return m.medium(labelled(name, nodefs.LabelIdentity, func(directory string) (Found, error) {
		text, file, err := readAny(directory, nodefs.IdentityFile, nodefs.IgnitionFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Found{}, nothing("it holds neither %s nor %s", nodefs.IdentityFile, nodefs.IgnitionFile)
		case err != nil:
			return Found{}, err
		}
		return plain.read(name+", "+file, text)
	}))
}
