package initramfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sysroot is where the new root is mounted.
const sysroot = "/sysroot"

// mountPoint is one mount of the initramfs.
type mountPoint struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// systemMounts are moved along to the new root, in this order.
func systemMounts() []mountPoint {
	const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mountPoint{
		{"proc", "/proc", "proc", safe, ""},
		{"sysfs", "/sys", "sysfs", safe, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	}
}

func (m mountPoint) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mounting %s (%s) at %s: %w", m.source, m.kind, m.target, err)
	}
	return nil
}

// mountSystem mounts what every program expects. A second call (after a crash of the first in a test) changes nothing.
func mountSystem() error {
	for _, m := range systemMounts() {
		if err := m.mount(); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

// standardStreams makes /dev/console the input and output of this program and those it starts.
func standardStreams() error {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("opening /dev/console: %w", err)
	}
	for target := range 3 {
		if err := unix.Dup3(fd, target, 0); err != nil {
			return fmt.Errorf("opening /dev/console: %w", err)
		}
	}
	if fd > 2 {
		return unix.Close(fd)
	}
	return nil
}

// withBinds runs do while /dev, /proc, /sys and /run are also seen below the new root, for programs that run there.
func withBinds(do func() error) error {
	var bound []string
	defer func() {
		for i := len(bound) - 1; i >= 0; i-- {
			_ = unix.Unmount(bound[i], unix.MNT_DETACH)
		}
	}()
	for _, m := range systemMounts() {
		target := filepath.Join(sysroot, m.target)
		if err := unix.Mount(m.target, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s at %s: %w", m.target, target, err)
		}
		bound = append(bound, target)
	}
	return do()
}
