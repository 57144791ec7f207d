package initramfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/go-dmverity/pkg/dm"
	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/nodefs"
)

const (
	// systemName and payloadName are the device-mapper names of the two filesystems of the root.
	systemName  = "system"
	payloadName = "payload"
	// payloadAlign is the boundary on which the payload's squashfs begins, in bytes: the builder puts it there.
	payloadAlign = 1 << 20
	sectorSize   = 512
)

// superblock is the beginning of a squashfs 4.0: its magic, and bytes_used at offset 40, little-endian.
type superblock [48]byte

func (s superblock) valid() bool { return string(s[:4]) == "hsqs" }

func (s superblock) bytesUsed() int64 { return int64(binary.LittleEndian.Uint64(s[40:])) }

// findPayload tells where on a verified root of the given size the payload's squashfs lies: on the next boundary behind
// the system's. Zero means that the root has none.
func findPayload(device io.ReaderAt, size int64) (int64, error) {
	system, err := readSuperblock(device, 0)
	if err != nil {
		return 0, err
	}
	offset := (system.bytesUsed() + payloadAlign - 1) / payloadAlign * payloadAlign
	if offset >= size {
		return 0, nil
	}
	_, err = readSuperblock(device, offset)
	return offset, err
}

func readSuperblock(device io.ReaderAt, offset int64) (superblock, error) {
	var s superblock
	if _, err := device.ReadAt(s[:], offset); err != nil {
		return s, fmt.Errorf("reading the squashfs at byte %d: %w", offset, err)
	}
	if !s.valid() {
		return s, fmt.Errorf("no squashfs at byte %d of the root", offset)
	}
	return s, nil
}

// mountParts mounts the system at sysroot and, if there is one, the payload below it. Each lies on a linear mapping of
// the verity device, so that the same root hash covers both: a device that is mounted itself cannot be mapped as well.
func mountParts(device string) (string, error) {
	file, err := os.Open(device)
	if err != nil {
		return "", err
	}
	size, sizeErr := file.Seek(0, io.SeekEnd)
	offset, err := findPayload(file, size)
	if err := errors.Join(sizeErr, err, file.Close()); err != nil {
		return "", withHint(err, "the disk holds a root that this kernel image was not made for; write the image to the disk again")
	}
	end := offset
	if offset == 0 {
		end = size
	}
	if err := os.MkdirAll(sysroot, 0o755); err != nil {
		return "", err
	}
	if err := mountRange(systemName, device, 0, end, sysroot); err != nil || offset == 0 {
		return "no payload", err
	}
	return fmt.Sprintf("payload from MiB %d on", offset/payloadAlign), mountRange(payloadName, device, offset, size, filepath.Join(sysroot, nodefs.Payload))
}

// mountRange mounts the squashfs between two bytes of a device. The mount point has to be there: the payload's is part of
// the read-only system.
func mountRange(name, device string, begin, end int64, target string) error {
	mapped, err := activate(name, dm.Target{
		Length: uint64(end-begin) / sectorSize, Type: "linear", Params: fmt.Sprintf("%s %d", device, begin/sectorSize),
	})
	if err != nil {
		return err
	}
	if err := unix.Mount(mapped, target, "squashfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting the %s from %s at %s: %w", name, mapped, target, err)
	}
	return nil
}
