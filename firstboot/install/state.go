package install

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

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// deviceWait is how long a partition's device may take to appear after the table was read.
const deviceWait = 10 * time.Second

// HasJournal mounts partition number of the disk at path, read-only, and looks for firstboot's journal. The filesystem's
// own log is replayed, as the node's next boot would: what a node wrote just before a power cut may be only there.
func HasJournal(root nodefs.Root) func(ctx context.Context, disk string, number int) (bool, error) {
	return func(ctx context.Context, disk string, number int) (bool, error) {
		found := false
		err := withPartition(ctx, root, mountPoint{disk: disk, number: number, filesystem: "ext4"}, func(directory string) error {
			info, err := os.Stat(filepath.Join(directory, strings.TrimPrefix(nodefs.Journal, nodefs.State)))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			found = err == nil && info.Size() > 0
			return err
		})
		return found, err
	}
}

// mountPoint is a partition to mount read-only.
type mountPoint struct {
	disk       string
	number     int
	filesystem string
}

// withPartition mounts a partition for as long as do runs.
func withPartition(ctx context.Context, root nodefs.Root, m mountPoint, do func(directory string) error) error {
	device, err := partitionDevice(ctx, root, m.disk, m.number)
	if err != nil {
		return err
	}
	directory := root.Path("/run/kiln/installed")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount(device, directory, m.filesystem, flags, ""); err != nil {
		return fmt.Errorf("mounting %s as %s: %w", device, m.filesystem, err)
	}
	err = do(directory)
	if unmountErr := unix.Unmount(directory, 0); unmountErr != nil {
		return errors.Join(err, fmt.Errorf("unmounting %s: %w", device, unmountErr))
	}
	return err
}

// partitionDevice is the device of partition number of the disk at path.
func partitionDevice(ctx context.Context, root nodefs.Root, disk string, number int) (string, error) {
	name := strings.ReplaceAll(strings.TrimPrefix(disk, "/dev/"), "/", "!")
	for deadline := time.Now().Add(deviceWait); ; {
		files, _ := filepath.Glob(root.Path("/sys/block/" + name + "/*/uevent"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			lines := strings.Split(string(text), "\n")
			if err != nil || !slices.Contains(lines, fmt.Sprintf("PARTN=%d", number)) {
				continue
			}
			for _, line := range lines {
				if device, ok := strings.CutPrefix(line, "DEVNAME="); ok {
					return root.Path("/dev/" + device), nil
				}
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("partition %d of %s has had no device for %s", number, disk, deviceWait)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
