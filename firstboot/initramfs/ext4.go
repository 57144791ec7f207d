package initramfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
)

// extent is how large an ext4 filesystem is.
type extent struct {
	blocks    int64
	blockSize int64
}

// readExt4 reads the superblock of the filesystem on device (kernel documentation, filesystems/ext4, "Super Block").
func readExt4(device io.ReaderAt) (extent, error) {
	block := make([]byte, 1024)
	if _, err := device.ReadAt(block, 1024); err != nil {
		return extent{}, fmt.Errorf("reading the superblock: %w", err)
	}
	if binary.LittleEndian.Uint16(block[0x38:]) != 0xEF53 {
		return extent{}, errors.New("there is no ext4 filesystem on it")
	}
	const incompat64Bit = 0x80
	blocks := int64(binary.LittleEndian.Uint32(block[0x4:]))
	if binary.LittleEndian.Uint32(block[0x60:])&incompat64Bit != 0 {
		blocks |= int64(binary.LittleEndian.Uint32(block[0x150:])) << 32
	}
	return extent{blocks: blocks, blockSize: 1024 << binary.LittleEndian.Uint32(block[0x18:])}, nil
}

// checkExt4 has e2fsck replay the journal and mend what it can without asking.
func checkExt4(ctx context.Context, runner command.Runner, device string) error {
	err := withBinds(func() error {
		_, err := runner.Run(ctx, inRoot(fsckProgram, "-p", device))
		return err
	})
	var exit *command.ExitError
	// 1 and 2 mean that errors were corrected; the restart that 2 asks for is only for a mounted filesystem.
	if errors.As(err, &exit) && exit.Code <= 2 {
		return nil
	}
	return withHint(err, "the state partition is damaged beyond what may be mended without asking; boot with kiln.shell on the "+
		"kernel command line and run e2fsck yourself, or delete the partition for a new node")
}

// growExt4 grows the mounted filesystem to the size of its partition, in bytes, and tells whether there was anything to grow.
func growExt4(mounted string, size extent, partition int64) (bool, error) {
	// What is smaller than a block group is not worth it, and may be refused.
	want := partition / size.blockSize
	if want-size.blocks < 8*size.blockSize {
		return false, nil
	}
	dir, err := os.Open(mounted)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	const ext4IocResizeFS = 0x40086610 // _IOW('f', 16, __u64)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4IocResizeFS, uintptr(unsafe.Pointer(&want))); errno != 0 {
		return false, fmt.Errorf("growing the filesystem from %d to %d blocks: %w", size.blocks, want, errno)
	}
	return true, nil
}
