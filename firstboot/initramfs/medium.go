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

	"github.com/kiln-os/kiln/firstboot/initramfs/hashtree"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// findMedium waits for a filesystem with the root, and leaves it mounted: the root is read from it for as long as the
// machine runs.
func (b *boot) findMedium(context.Context) (string, error) {
	seen := map[string]string{}
	for start, told := time.Now(), time.Now(); ; time.Sleep(mediumPoll) {
		b.coldplug.plug()
		for _, device := range b.filesystems() {
			if strings.HasPrefix(seen[device], final) {
				continue
			}
			err := b.tryMedium(device)
			if err == nil {
				where := "the medium " + device
				b.facts.Live = &Live{Source: nodefs.Medium, Device: device, Files: filepath.Join(nodefs.Medium, nodefs.LiveDir)}
				return where, b.attach(filepath.Join(b.facts.Live.Files, nodefs.LiveRoot), filepath.Join(b.facts.Live.Files, nodefs.LiveVerity), where)
			}
			seen[device] = err.Error()
		}
		if time.Since(start) > b.params.RootWait {
			return "", withHint(errors.New(mediumReport(b.params.RootWait, seen)),
				"check that the medium is still connected, and that the Image document's modules name the drivers of its controller; a slow one may need a larger kiln.rootwait")
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			b.console.say("find-medium: waiting for a medium with /%s/%s, %.0f s of %s", nodefs.LiveDir, nodefs.LiveRoot, time.Since(start).Seconds(), b.params.RootWait)
		}
	}
}

// mediumPoll is longer than that of partitions: each look reads from a drive that may be slow.
const mediumPoll = 200 * time.Millisecond

// final begins what is true of a device for good, so that it is not looked at again.
const final = "is "

func mediumReport(wait time.Duration, seen map[string]string) string {
	lines := []string{fmt.Sprintf("no medium with /%s/%s of this image after %s; looked at:", nodefs.LiveDir, nodefs.LiveRoot, wait)}
	for device, what := range seen {
		lines = append(lines, "  "+device+" "+what)
	}
	if len(seen) == 0 {
		lines = append(lines, "  nothing: the machine shows no disk and no CD drive")
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n")
}

// filesystems lists the devices that may hold one: CD drives, disks and their partitions, CD drives first.
func (b *boot) filesystems() []string {
	var drives, devices []string
	names, _ := os.ReadDir(filepath.Join(b.sys, "block"))
	for _, name := range names {
		if strings.HasPrefix(name.Name(), "sr") && readNumber(filepath.Join(b.sys, "block", name.Name(), "size")) > 0 {
			drives = append(drives, filepath.Join(b.devices.dev, name.Name()))
		}
	}
	for _, d := range b.devices.list() {
		// All of a disk that was written from an ISO is a filesystem as well.
		devices = append(devices, d.path)
		var partitions []string
		for _, partition := range d.devices {
			partitions = append(partitions, partition)
		}
		slices.Sort(partitions)
		devices = append(devices, partitions...)
	}
	return append(drives, devices...)
}

// tryMedium mounts a device and keeps it so if the root on it is ours.
func (b *boot) tryMedium(device string) error {
	file, err := os.Open(device)
	if err != nil {
		return err
	}
	kind := filesystemOf(file)
	file.Close()
	if kind == "" {
		return errors.New(final + "no iso9660, FAT or ext4")
	}
	options := map[string]string{"ext4": "noload"}[kind]
	if err := os.MkdirAll(nodefs.Medium, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(device, nodefs.Medium, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("cannot be mounted as %s: %w", kind, err)
	}
	if err := checkMedium(filepath.Join(nodefs.Medium, nodefs.LiveDir), b.params.RootHash); err != nil {
		_ = unix.Unmount(nodefs.Medium, 0)
		return fmt.Errorf("%s%s: %w", final, kind, err)
	}
	return nil
}

// checkMedium checks the hash tree in a directory by the root hash, and the root's size by the tree. What the root holds the kernel
// checks as it is read.
func checkMedium(dir string, rootHash []byte) error {
	tree, err := os.Open(filepath.Join(dir, nodefs.LiveVerity))
	if err != nil {
		return fmt.Errorf("has no /%s/%s", nodefs.LiveDir, nodefs.LiveVerity)
	}
	defer tree.Close()
	checked, err := hashtree.Read(tree, rootHash)
	if err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(dir, nodefs.LiveRoot))
	if err != nil {
		return fmt.Errorf("has no /%s/%s", nodefs.LiveDir, nodefs.LiveRoot)
	}
	if info.Size() < checked.DataSize() {
		return fmt.Errorf("its %s has %d bytes; want %d: it was cut off", nodefs.LiveRoot, info.Size(), checked.DataSize())
	}
	return nil
}

// filesystemOf tells a filesystem by its superblock: iso9660 (ECMA-119, volume descriptor), ext4, FAT32 or FAT16.
func filesystemOf(device io.ReaderAt) string {
	for _, magic := range []struct {
		offset     int64
		text, kind string
	}{{32769, "CD001", "iso9660"}, {1080, "\x53\xef", "ext4"}, {82, "FAT32", "vfat"}, {54, "FAT1", "vfat"}} {
		have := make([]byte, len(magic.text))
		if _, err := device.ReadAt(have, magic.offset); err == nil && bytes.Equal(have, []byte(magic.text)) {
			return magic.kind
		}
	}
	return ""
}
