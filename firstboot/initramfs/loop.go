package initramfs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// byteRange is a part of a file or device, in bytes; a size of zero is all that follows.
type byteRange struct {
	path         string
	offset, size int64
}

// attachLoop makes a read-only block device of a file and returns its path. The device lasts until the machine stops; the
// file may lose its name meanwhile.
func attachLoop(path string) (string, error) { return attachRange(byteRange{path: path}) }

// attachRange does the same with a part of a file.
func attachRange(r byteRange) (string, error) {
	device, err := tryLoop(r)
	// Somebody else may have taken the free device, and a device's node may come a moment after it.
	for attempt := 0; err != nil && attempt < 50 && (errors.Is(err, unix.EBUSY) || errors.Is(err, os.ErrNotExist)); attempt++ {
		time.Sleep(pollInterval)
		device, err = tryLoop(r)
	}
	if err != nil {
		return "", fmt.Errorf("making a block device of %s: %w", r.path, err)
	}
	return device, nil
}

func tryLoop(r byteRange) (string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", fmt.Errorf("asking for a free loop device: %w", err)
	}
	name := fmt.Sprintf("/dev/loop%d", number)
	device, err := os.OpenFile(name, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer device.Close()
	file, err := os.Open(r.path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags, config.Info.Offset, config.Info.Sizelimit = unix.LO_FLAGS_READ_ONLY, uint64(r.offset), uint64(r.size)
	copy(config.Info.File_name[:len(config.Info.File_name)-1], r.path)
	return name, unix.IoctlLoopConfigure(int(device.Fd()), &config)
}
