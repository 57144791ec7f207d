package source

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/kiln-os/kiln/internal/command"
)

const (
	// firmwareConfigDir is where the kernel module qemu_fw_cfg shows QEMU's -fw_cfg entries.
	firmwareConfigDir = "/sys/firmware/qemu_fw_cfg"
	// firmwareConfigKey is the entry that Ignition reads on QEMU, too.
	firmwareConfigKey = "opt/com.coreos/config"
)

// firmwareConfig reads an identity, or an Ignition config that holds it, that QEMU was given with -fw_cfg name=opt/com.coreos/config,file=….
func (m Machine) firmwareConfig() Source {
	name := "QEMU fw_cfg " + firmwareConfigKey
	return Source{Name: name, Offline: true, Find: func(ctx context.Context) (Found, error) {
		if err := m.loadFirmwareConfig(ctx); err != nil {
			return Found{}, err
		}
		raw, err := readLimited(m.Root.Path(firmwareConfigDir + "/by_name/" + firmwareConfigKey + "/raw"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Found{}, nothing("QEMU was started without it (-fw_cfg name=%s,file=CONFIG)", firmwareConfigKey)
		case err != nil:
			return Found{}, err
		}
		return fetched.read(name, raw)
	}}
}

// loadFirmwareConfig loads the module when systemd has not: it costs a process, which the usual boot saves.
func (m Machine) loadFirmwareConfig(ctx context.Context) error {
	dir := m.Root.Path(firmwareConfigDir)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	_, err := m.Runner.Run(ctx, command.Command{Name: "modprobe", Args: []string{"qemu_fw_cfg"}})
	if _, statErr := os.Stat(dir); statErr == nil {
		return nil
	}
	if err != nil {
		return nothing("the machine does not show QEMU's fw_cfg: %s", err)
	}
	return nothing("the machine does not show QEMU's fw_cfg")
}
