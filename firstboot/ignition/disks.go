package ignition

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vincent-petithory/dataurl"

	"github.com/kiln-os/kiln/internal/command"
)

// Files of the work, in the journal's directory. The engine's state is kept apart for each step, so that a step that is run
// again begins with what the one before it left.
const (
	configFile   = "config.json"
	renderedFile = "rendered.json"
	stateFile    = "state-"
)

// fetch has the engine merge what the config names into it.
func (a *attempt) fetch(ctx context.Context) (string, error) {
	if err := put(a.journal.path(configFile), a.config); err != nil {
		return "", fmt.Errorf("writing the config for the engine: %w", err)
	}
	name := "fetch-offline"
	if a.network {
		name = "fetch"
	}
	if err := os.RemoveAll(a.Root.Path(neednet)); err != nil {
		return "", err
	}
	s := stage{name: name, cache: a.journal.path(renderedFile), before: a.journal.path("no-state"), after: a.journal.path(stateFile + "fetch")}
	if err := a.engine(ctx, s); err != nil {
		return "", err
	}
	if _, err := os.Stat(a.Root.Path(neednet)); err == nil {
		a.postponed = true
		return "", nil
	}
	if err := a.render(); err != nil {
		return "", err
	}
	return "", check(a.from, a.rendered.Config)
}

// render reads the rendered config, unless that was done.
func (a *attempt) render() (err error) {
	if a.rendered.raw == nil {
		a.rendered, err = readRendering(a.journal.path(renderedFile))
	}
	return err
}

// resume makes ready for step i what earlier steps did on an earlier boot and a boot undoes.
func (a *attempt) resume(ctx context.Context, i int) error {
	if i == 0 {
		return nil
	}
	if err := a.render(); err != nil {
		return err
	}
	if names := a.steps().Names(); names[i] != "filesystems" && names[i] != "files" || len(a.rendered.Storage.Luks) == 0 {
		return nil
	}
	return a.openVolumes(ctx)
}

// disks has the engine do one kind of what its stage disks does. Each is a step of its own, so that a power cut within one does
// not have another done twice.
func (a *attempt) disks(ctx context.Context, kind, before, after string, change func(entry map[string]any)) error {
	text, err := a.rendered.only(kind, change)
	if err != nil {
		return fmt.Errorf("rendering the config: %w", err)
	}
	cache := a.journal.path("only-" + kind + ".json")
	if err := put(cache, text); err != nil {
		return fmt.Errorf("rendering the config: %w", err)
	}
	return a.engine(ctx, stage{name: "disks", cache: cache, before: a.journal.path(stateFile + before), after: a.journal.path(stateFile + after)})
}

func (a *attempt) partitions(ctx context.Context) (string, error) {
	return "", a.disks(ctx, "disks", "fetch", "partitions", nil)
}

// raid makes arrays. udev puts together what an earlier try has made as soon as it sees the members, and holds them: such an
// array is stopped first. One that held them before the first try is left alone, and the engine refuses to make another of it.
func (a *attempt) raid(ctx context.Context) (string, error) {
	var members []string
	for _, array := range a.rendered.Storage.Raid {
		for _, device := range array.Devices {
			members = append(members, string(device))
		}
	}
	if err := a.settle(ctx, members); err != nil {
		return "", err
	}
	for _, member := range members {
		holders := a.holders(member)
		held, known := a.journal.Held[member]
		if !known {
			a.journal.Held[member] = len(holders) > 0
		}
		if !known || held {
			continue
		}
		for _, array := range holders {
			if _, err := a.Runner.Run(ctx, command.Command{Name: "mdadm", Args: []string{"--stop", array}}); err != nil {
				return "", fmt.Errorf("stopping the array of an earlier try: %w", err)
			}
		}
	}
	if err := a.journal.save(); err != nil {
		return "", err
	}
	return "", a.disks(ctx, "raid", "partitions", "raid", nil)
}

// luks makes encrypted volumes. A volume of a try that was cut off may have a key that nobody knows any more: it is made anew.
func (a *attempt) luks(ctx context.Context) (string, error) {
	var devices []string
	for _, volume := range a.rendered.Storage.Luks {
		if volume.Device == nil {
			continue
		}
		devices = append(devices, *volume.Device)
		mapped := a.Root.Path("/dev/mapper/" + volume.Name)
		if _, err := os.Stat(mapped); err == nil && a.journal.Blank[*volume.Device] {
			if _, err := a.Runner.Run(ctx, command.Command{Name: "cryptsetup", Args: []string{"close", volume.Name}}); err != nil {
				return "", fmt.Errorf("closing the volume of an earlier try: %w", err)
			}
		}
	}
	if err := a.showEmptyVolumes(ctx); err != nil {
		return "", err
	}
	ours, err := a.look(ctx, devices)
	if err != nil {
		return "", err
	}
	return "", a.disks(ctx, "luks", "raid", "luks", func(entry map[string]any) {
		if device, _ := entry["device"].(string); ours[device] {
			entry["wipeVolume"] = true
		}
	})
}

func (a *attempt) filesystems(ctx context.Context) (string, error) {
	var devices []string
	for _, filesystem := range a.rendered.Storage.Filesystems {
		devices = append(devices, filesystem.Device)
	}
	ours, err := a.look(ctx, devices)
	if err != nil {
		return "", err
	}
	return "", a.disks(ctx, "filesystems", "luks", "filesystems", func(entry map[string]any) {
		if device, _ := entry["device"].(string); ours[device] {
			entry["wipeFilesystem"] = true
		}
	})
}

// openVolumes opens the encrypted volumes that an earlier boot made, with the keys in the engine's state, and names their devices
// as the engine's stage disks does: its stage files looks for them there.
func (a *attempt) openVolumes(ctx context.Context) error {
	text, err := os.ReadFile(a.journal.path(stateFile + "luks"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var state struct {
		LuksPersistKeyFiles map[string]string `json:"luksPersistKeyFiles"`
	}
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		return fmt.Errorf("reading the engine's state: %w", err)
	}
	if err := a.showEmptyVolumes(ctx); err != nil {
		return err
	}
	for _, volume := range a.rendered.Storage.Luks {
		if volume.Device == nil {
			continue
		}
		if err := a.settle(ctx, []string{*volume.Device}); err != nil {
			return err
		}
		if err := a.alias(*volume.Device); err != nil {
			return err
		}
		if _, err := os.Stat(a.Root.Path("/dev/mapper/" + volume.Name)); err == nil {
			continue
		}
		key, err := dataurl.DecodeString(state.LuksPersistKeyFiles[volume.Name])
		if err != nil {
			return fmt.Errorf("reading the key of volume %s: it is not in the engine's state", volume.Name)
		}
		_, err = a.Runner.Run(ctx, command.Command{Name: "cryptsetup", Args: []string{"open", "--key-file=-", *volume.Device, volume.Name},
			Stdin: strings.NewReader(string(key.Data))})
		if err != nil {
			return fmt.Errorf("opening volume %s, which an earlier boot made: %w", volume.Name, err)
		}
	}
	return nil
}
