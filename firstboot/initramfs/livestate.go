package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// openLiveState mounts /var in memory, or on the disk that the rule picks.
func (b *boot) openLiveState(ctx context.Context) (string, error) {
	if b.params.State.IsZero() {
		b.facts.StateCreated = true
		b.facts.Live.State = nodefs.StateMemory
		err := errors.Join(mountStateMemory(filepath.Join(sysroot, nodefs.State)), limitJournal(nodefs.JournalRuntime))
		return "in memory: it is gone when the machine stops", err
	}
	chosen, err := b.awaitDisk(b.params.State)
	if err != nil {
		return "", err
	}
	b.stateDisk = filepath.Base(chosen.Path)
	if err := b.checkStateDisk(chosen); err != nil {
		return "", err
	}
	if b.params.Root.overNetwork() && !b.cached {
		b.keepCache(ctx)
	}
	note, err := b.openState(ctx)
	b.facts.Live.State = b.facts.StateDevice
	return note, err
}

// mountStateMemory leaves half of the memory to programs, as a tmpfs does by itself.
func mountStateMemory(target string) error {
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting a tmpfs at /var: %w", err)
	}
	return nil
}

// limitJournal keeps systemd's journal, which lies in /var, from taking the memory that a disk would have for it.
func limitJournal(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := "# Left by the initramfs: /var is in memory.\n[Journal]\nSystemMaxUse=64M\n"
	return os.WriteFile(filepath.Join(dir, "50-kiln-live.conf"), []byte(text), 0o644)
}

// settled is how long no further disk may come before one is chosen: by then another would fit the rule, too.
const settled = time.Second

// awaitDisk waits for the disk that the rule picks. The medium that the root is on is none of them.
func (b *boot) awaitDisk(rule disks.Rule) (disks.Disk, error) {
	var before []disks.Disk
	for start, changed := time.Now(), time.Now(); ; time.Sleep(pollInterval) {
		b.coldplug.plug()
		list := slices.DeleteFunc(disks.List(b.sys, b.devices.dev), func(d disks.Disk) bool { return strings.HasPrefix(b.facts.Live.Device, d.Path) })
		if len(list) != len(before) {
			before, changed = list, time.Now()
		}
		chosen, err := disks.Pick(rule, list)
		quiet := time.Since(changed) > settled
		// None may still come; several will not become fewer.
		if quiet && (err == nil || slices.ContainsFunc(list, rule.Matches) || time.Since(start) > b.params.RootWait) {
			return chosen, withHint(err, fmt.Sprintf("correct %s on the kernel command line; the list shows disks in the words of rules", nodefs.ParamState))
		}
	}
}

// checkStateDisk refuses a disk that holds something which is not a table with room: systemd-repart makes a table only
// on a disk that holds nothing at all.
func (b *boot) checkStateDisk(chosen disks.Disk) error {
	d, ok := b.devices.read(b.stateDisk)
	if !ok || d.err == nil {
		return nil
	}
	empty, err := isBlank(chosen.Path, chosen.Size)
	if err != nil {
		return fmt.Errorf("reading %s: %w", chosen.Path, err)
	}
	if !empty {
		return withHint(fmt.Errorf("the disk for the state, %s, holds something that is no GUID partition table (%s)", chosen, d.err),
			fmt.Sprintf("it is not overwritten: choose another disk with %s, or wipe this one (wipefs --all %s)", nodefs.ParamState, chosen.Path))
	}
	b.blankState = true
	return nil
}

// blankEdge is how much at either end of a disk has to be zero: partition tables, and filesystems' and RAIDs' superblocks
// lie there.
const blankEdge = 1 << 20

// isBlank tells whether a disk of size bytes was never used, or was wiped.
func isBlank(path string, size int64) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	edge := make([]byte, min(blankEdge, size))
	for _, offset := range []int64{0, size - int64(len(edge))} {
		if _, err := io.ReadFull(io.NewSectionReader(file, offset, int64(len(edge))), edge); err != nil {
			return false, err
		}
		if len(bytes.Trim(edge, "\x00")) > 0 {
			return false, nil
		}
	}
	return true, nil
}
