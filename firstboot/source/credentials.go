package source

import (
	"context"
	"errors"
	"io/fs"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// credentials reads an identity that systemd was given: by SMBIOS (type 11, io.systemd.credential:kiln.identity=…), fw_cfg
// (opt/io.systemd.credentials/kiln.identity), the kernel command line or the ESP (systemd.io/CREDENTIALS). One that the unit
// imports comes decrypted; what the system has is as it was given.
func (m Machine) credentials() Source {
	name := "systemd credential " + nodefs.CredentialIdentity
	return Source{Name: name, Offline: true, Find: func(context.Context) (Found, error) {
		for _, directory := range []string{nodefs.UnitCredentials, nodefs.SystemCredentials} {
			text, _, err := readAny(m.Root.Path(directory), nodefs.CredentialIdentity)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return Found{}, err
			}
			return fetched.read(name, text)
		}
		return Found{}, nothing("systemd was not given it (SMBIOS, fw_cfg or ESP)")
	}}
}
