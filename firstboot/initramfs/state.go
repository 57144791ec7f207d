package initramfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const (
	// worthGrowing is how much room behind the state partition is worth writing the partition table for.
	worthGrowing = 64 << 20
	// deviceWait bounds the wait for the device of a partition that was just made.
	deviceWait = 10 * time.Second
)

// openState makes or grows the state partition, checks it and mounts it at /var.
func (b *boot) openState(ctx context.Context) (string, error) {
	d, err := b.rereadDisk()
	if err != nil {
		return "", err
	}
	state, found := d.labelled(nodefs.LabelState)
	switch {
	case !found:
		err = b.createState(ctx, d)
	case state.number == d.table.lastEntry().number && d.table.unused() > worthGrowing:
		b.console.say("state: growing the partition by %s", document.Size(d.table.unused()))
		err = repart(ctx, b.commands, repartition{disk: d.path, definitions: nodefs.RepartDefinitions})
	}
	if err != nil {
		return "", err
	}
	d, state, err = b.awaitPartition(nodefs.LabelState)
	if err != nil {
		return "", err
	}
	b.facts.StateDevice = d.devices[state.number]
	if err := b.mountState(ctx, d.table.bytes(state)); err != nil {
		return "", fmt.Errorf("state partition %s: %w", b.facts.StateDevice, err)
	}
	return b.stateNote(d.table.bytes(state)), nil
}

func (b *boot) stateNote(size int64) string {
	did := "found"
	switch {
	case b.facts.StateCreated:
		did = "created"
	case b.facts.StateGrown:
		did = "grown"
	}
	return fmt.Sprintf("%s %s, %s", did, b.facts.StateDevice, document.Size(size))
}

// createState adds the partition, if there is room.
func (b *boot) createState(ctx context.Context, d disk) error {
	need, err := stateMinimum(filepath.Join(sysroot, nodefs.RepartDefinitions))
	if err != nil {
		return err
	}
	if room := d.table.unused(); room < need {
		return withHint(fmt.Errorf("%s is too small: the state partition needs %s, and %s are left behind the last partition",
			d.path, document.Size(need), document.Size(room)),
			fmt.Sprintf("give the machine a disk of at least %s", document.Size(d.table.sectors*d.table.sectorSize-room+need+2*grain)))
	}
	b.console.say("state: none on %s yet, creating it in %s", d.path, document.Size(d.table.unused()))
	if err := repart(ctx, b.commands, repartition{disk: d.path, definitions: nodefs.RepartDefinitions, blank: b.blankState}); err != nil {
		return fmt.Errorf("creating the state partition on %s: %w", d.path, err)
	}
	b.facts.StateCreated, b.blankState = true, false
	return nil
}

// awaitPartition finds a partition of the state's disk and waits for its device.
func (b *boot) awaitPartition(label string) (disk, entry, error) {
	for deadline := time.Now().Add(deviceWait); ; time.Sleep(20 * time.Millisecond) {
		d, err := b.rereadDisk()
		if err != nil {
			return d, entry{}, err
		}
		found, ok := d.labelled(label)
		if ok && d.devices[found.number] != "" {
			return d, found, nil
		}
		if time.Now().After(deadline) {
			return d, found, fmt.Errorf("%s: no partition with label %s and a device after %s", d.path, label, deviceWait)
		}
	}
}

func (b *boot) rereadDisk() (disk, error) {
	d, ok := b.devices.read(b.stateDisk)
	if !ok {
		return d, fmt.Errorf("reading %s again: the disk is gone", b.stateDisk)
	}
	// A disk that is known to hold nothing has no table to read.
	if d.err != nil && !b.blankState {
		return d, fmt.Errorf("reading %s again: %w", d.path, d.err)
	}
	return d, nil
}

// mountState checks the filesystem, mounts it at the root's /var and grows it to the partition's size, in bytes.
func (b *boot) mountState(ctx context.Context, partition int64) error {
	device, err := os.Open(b.facts.StateDevice)
	if err != nil {
		return err
	}
	size, err := readExt4(device)
	device.Close()
	if err != nil {
		return withHint(err, "somebody made the partition without its filesystem; delete it, and the next boot makes a new one")
	}
	if err := checkExt4(ctx, b.commands, b.facts.StateDevice); err != nil {
		return err
	}
	target := filepath.Join(sysroot, nodefs.State)
	if err := unix.Mount(b.facts.StateDevice, target, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mounting it at /var: %w", err)
	}
	b.facts.StateGrown, err = growExt4(target, size, partition)
	return err
}
