package ignition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kiln-os/kiln/internal/command"
)

// holders lists the arrays that a device is part of, as in /dev/md127.
func (a *attempt) holders(device string) []string {
	real, err := filepath.EvalSymlinks(a.Root.Path(device))
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(a.Root.Path("/sys/class/block/" + filepath.Base(real) + "/holders"))
	if err != nil {
		return nil
	}
	var arrays []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "md") {
			arrays = append(arrays, "/dev/"+entry.Name())
		}
	}
	return arrays
}

// engineAliases is where the engine looks for devices, below their own paths.
const engineAliases = "/run/ignition/dev_aliases"

// alias gives a device the name below /run by which the engine knows it whatever udev does with its own links.
func (a *attempt) alias(device string) error {
	target, err := filepath.EvalSymlinks(a.Root.Path(device))
	if err == nil {
		name := a.Root.Path(filepath.Join(engineAliases, device))
		if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			err = renameio.Symlink(target, name)
		}
	}
	if err != nil {
		return fmt.Errorf("naming the device %s for the engine: %w", device, err)
	}
	return nil
}

// devicePoll is the pause between two looks for a device.
const devicePoll = 100 * time.Millisecond

// settle waits for devices, and until udev has done all it does when it sees them. One that does not appear is for the engine
// to report, or to wait for.
func (a *attempt) settle(ctx context.Context, devices []string) error {
	if len(devices) == 0 {
		return nil
	}
	for deadline := time.Now().Add(a.DeviceWait); !a.present(devices) && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(devicePoll):
		}
	}
	if _, err := a.Runner.Run(ctx, command.Command{Name: "udevadm", Args: []string{"settle", "--timeout=60"}}); err != nil {
		return fmt.Errorf("waiting for udev: %w", err)
	}
	return nil
}

func (a *attempt) present(devices []string) bool {
	return !slices.ContainsFunc(devices, func(device string) bool {
		_, err := os.Stat(a.Root.Path(device))
		return err != nil
	})
}

// emptyVolumes is a rule that comes after systemd's own, which keeps an encrypted volume with nothing in it from being a device of
// systemd's: the engine waits for one before it makes a filesystem there. udev(7) reads rules from /run, too.
const (
	emptyVolumesFile = "/run/udev/rules.d/99-zz-kiln-empty-volumes.rules"
	emptyVolumes     = `SUBSYSTEM=="block", ENV{DM_UUID}=="CRYPT-*", ENV{ID_PART_TABLE_TYPE}=="", ENV{ID_FS_USAGE}=="", ENV{SYSTEMD_READY}="1"` + "\n"
)

// showEmptyVolumes has systemd know encrypted volumes as soon as they are open, if the config asks for any.
func (a *attempt) showEmptyVolumes(ctx context.Context) error {
	if len(a.rendered.Storage.Luks) == 0 {
		return nil
	}
	path := a.Root.Path(emptyVolumesFile)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(emptyVolumes), 0o644)); err != nil {
		return fmt.Errorf("telling udev of empty volumes: %w", err)
	}
	return a.reloadRules(ctx)
}

// hideEmptyVolumes ends that: a later volume is not seen before its user is done with it.
func (a *attempt) hideEmptyVolumes(ctx context.Context) error {
	err := os.Remove(a.Root.Path(emptyVolumesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("telling udev of empty volumes: %w", err)
	}
	return a.reloadRules(ctx)
}

func (a *attempt) reloadRules(ctx context.Context) error {
	if _, err := a.Runner.Run(ctx, command.Command{Name: "udevadm", Args: []string{"control", "--reload"}}); err != nil {
		return fmt.Errorf("having udev read its rules: %w", err)
	}
	return nil
}

// look writes down of each device that nobody has looked at whether there is anything on it. It returns those that had
// nothing at an earlier try: what they have now is that try's.
func (a *attempt) look(ctx context.Context, devices []string) (ours map[string]bool, err error) {
	if err := a.settle(ctx, devices); err != nil {
		return nil, err
	}
	ours = map[string]bool{}
	for _, device := range devices {
		if blank, known := a.journal.Blank[device]; known {
			ours[device] = blank
			continue
		}
		a.journal.Blank[device] = a.isBlank(ctx, device)
	}
	return ours, a.journal.save()
}

// isBlank tells whether a device has no signature of anything. One that is not there, or cannot be read, is not blank.
func (a *attempt) isBlank(ctx context.Context, device string) bool {
	// blkid(8) also finds nothing on a device that is not there.
	if _, err := os.Stat(a.Root.Path(device)); err != nil {
		return false
	}
	out, err := command.Output(ctx, a.Runner, command.Command{Name: "blkid", Args: []string{"--probe", "--output", "export", device}})
	if exit, ok := errors.AsType[*command.ExitError](err); ok && exit.Code == 2 { // "no identifying information"
		return true
	}
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(out)) {
		// Of a partition, blkid tells what the table says of it, too.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "DEVNAME=") && !strings.HasPrefix(line, "PART_ENTRY_") {
			return false
		}
	}
	return true
}
