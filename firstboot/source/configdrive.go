package source

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
)

// configDrive reads OpenStack's config drive: a filesystem labelled config-2 with openstack/latest/user_data and meta_data.json
// (docs.openstack.org/nova, "Config drives"). Others make one, too: Ironic for bare metal, Proxmox VE, KubeVirt.
func (m Machine) configDrive() Source {
	const name = "config drive (config-2)"
	return m.medium(labelled(name, "config-2", func(directory string) (Found, error) {
		directory = filepath.Join(directory, path.Dir(openStackUserData))
		text, file, err := readAny(directory, path.Base(openStackUserData))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Found{}, nothing("it holds no %s", openStackUserData)
		case err != nil:
			return Found{}, err
		}
		found, err := userData.read(name+", "+file, text)
		if err != nil {
			return Found{}, err
		}
		found.Metadata, err = about(name, directory, parseOpenStack, path.Base(openStackMetadata))
		return found, err
	}))
}
