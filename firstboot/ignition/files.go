package ignition

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// files mounts the config's filesystems, has users, files, directories, links and units made, and unmounts them again: how they
// are mounted later is for the config's units to say. The unit that runs this has a mount namespace of its own, so that
// nobody else sees them and what is left of a failure goes with it.
func (a *attempt) files(ctx context.Context) (string, error) {
	run := func(name, before string) error {
		return a.engine(ctx, stage{name: name, cache: a.journal.path(renderedFile),
			before: a.journal.path(stateFile + before), after: a.journal.path(stateFile + name)})
	}
	if err := run("mount", "filesystems"); err != nil {
		return "", err
	}
	if err := a.undo(); err != nil {
		return "", err
	}
	if err := run("files", "mount"); err != nil {
		return "", err
	}
	a.Sync()
	return "", run("umount", "files")
}

// undo makes every file and link that the engine will make what it was before a try that was cut off: the engine refuses to
// make a file that is there, and would append to one twice. At the first try it writes down how things are.
func (a *attempt) undo() error {
	for _, path := range a.writes() {
		where, copied := a.Root.Path(path), a.journal.path("before-"+digest(path))
		absent, known := a.journal.Absent[path]
		var err error
		switch {
		case !known:
			a.journal.Absent[path], err = a.remember(where, copied)
		case absent:
			err = removeFile(where)
		default:
			err = restore(where, copied)
		}
		if err != nil {
			return fmt.Errorf("looking at %s before it is written: %w", path, err)
		}
	}
	return a.journal.save()
}

// accounts are the files that useradd and the like write; upstream does not expect to find its own groups.
func accounts() []string {
	var paths []string
	for _, name := range []string{"passwd", "group", "shadow", "gshadow", "subuid", "subgid"} {
		// A lock is named after a process, and may seem to be held by another of the next boot.
		paths = append(paths, "/etc/"+name, "/etc/"+name+".lock")
	}
	return paths
}

// writes lists the files and links that the engine makes: those of the config, and what it makes of users, volumes and units.
func (a *attempt) writes() []string {
	var paths []string
	for _, file := range a.rendered.Storage.Files {
		paths = append(paths, file.Path)
	}
	for _, link := range a.rendered.Storage.Links {
		paths = append(paths, link.Path)
	}
	for _, volume := range a.rendered.Storage.Luks {
		paths = append(paths, "/etc/luks/"+volume.Name)
	}
	return append(append(paths, accounts()...), "/etc/crypttab", "/etc/systemd/system-preset/20-ignition.preset")
}

// remember copies a file that is there.
func (a *attempt) remember(where, copied string) (absent bool, err error) {
	info, err := os.Lstat(where)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	text, err := os.ReadFile(where)
	if err != nil {
		return false, err
	}
	return false, put(copied, text)
}

// restore writes a file's earlier content back, in place: its owner and mode stay.
func restore(where, copied string) error {
	text, err := os.ReadFile(copied)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was no regular file
	}
	if err != nil {
		return err
	}
	if info, err := os.Lstat(where); err == nil && !info.Mode().IsRegular() {
		if err := removeFile(where); err != nil {
			return err
		}
	}
	return os.WriteFile(where, text, 0o600)
}

// removeFile removes whatever is no directory.
func removeFile(where string) error {
	info, err := os.Lstat(where)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(where)
}

func digest(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:8])
}

// units enables the units that the config enables. Upstream leaves that to presets, which systemd reads on a machine's very
// first boot, before this runs, and in which what comes first, the image's own, has the last word. A unit that does not exist
// is an error.
func (a *attempt) units(ctx context.Context) (string, error) {
	var names []string
	for _, unit := range a.rendered.Systemd.Units {
		if unit.Enabled != nil && *unit.Enabled {
			names = append(names, unit.Name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	args := append([]string{"--root=" + string(a.Root), "enable"}, names...)
	if _, err := a.Runner.Run(ctx, command.Command{Name: nodefs.Systemctl, Args: args}); err != nil {
		return "", Failed{fmt.Errorf("enabling units: %w", err)}
	}
	return "enabled " + strings.Join(names, ", "), nil
}

// start makes the running systemd do what the config says of units; later boots do it by themselves.
func (a *attempt) start(ctx context.Context) error {
	commands := [][]string{{"daemon-reload"}}
	for _, unit := range a.rendered.Systemd.Units {
		switch {
		case unit.Mask != nil && *unit.Mask, unit.Enabled != nil && !*unit.Enabled:
			commands = append(commands, []string{"stop", "--no-block", unit.Name})
		case len(unit.Dropins) > 0 || unit.Contents != nil:
			// One that runs already does so without what was written.
			commands = append(commands, []string{"try-restart", "--no-block", unit.Name})
		}
	}
	// Whatever the targets of this boot now want besides is started; what runs is left alone.
	commands = append(commands, []string{"start", "--no-block", "default.target"})
	if a.network {
		if err := a.late(ctx); err != nil {
			return err
		}
	}
	for _, args := range commands {
		if _, err := a.Runner.Run(ctx, command.Command{Name: nodefs.Systemctl, Args: args}); err != nil {
			if args[0] == "stop" || args[0] == "try-restart" {
				a.Say(err.Error()) // the unit does not exist, or may not be stopped
				continue
			}
			return fmt.Errorf("starting units: %w", err)
		}
	}
	return nil
}

// late has done again what a boot does before the network is up: files of the config may say how.
func (a *attempt) late(ctx context.Context) error {
	for _, c := range []command.Command{
		{Name: nodefs.Systemctl, Args: []string{"try-restart", "systemd-modules-load.service", "systemd-sysctl.service"}},
		{Name: "systemd-tmpfiles", Args: []string{"--create"}},
		{Name: nodefs.Networkctl, Args: []string{"reload"}},
	} {
		if _, err := a.Runner.Run(ctx, c); err != nil {
			return fmt.Errorf("applying files that were written late: %w", err)
		}
	}
	return nil
}
