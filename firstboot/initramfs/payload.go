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
	// payloadName is the device-mapper name of the payload.
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

// mountPayload mounts the second squashfs of the verified root, through a linear mapping of the verity device, so that
// the same root hash covers it.
func mountPayload(device string) (string, error) {
	file, err := os.Open(device)
	if err != nil {
		return "", err
	}
	size, sizeErr := file.Seek(0, io.SeekEnd)
	offset, err := findPayload(file, size)
	if err := errors.Join(sizeErr, err, file.Close()); err != nil {
		return "", withHint(err, "the root holds no payload; build the image again")
	}
	if offset == 0 {
		return "no payload", nil
	}
	length := uint64(size-offset) / sectorSize
	mapped, err := activate(payloadName, dm.Target{Length: length, Type: "linear", Params: fmt.Sprintf("%s %d", device, offset/sectorSize)})
	if err != nil {
		return "", err
	}
	m := mountPoint{source: mapped, target: filepath.Join(sysroot, nodefs.Payload), kind: "squashfs", flags: unix.MS_RDONLY}
	// The mount point is part of the read-only root; making it would fail.
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
		return "", fmt.Errorf("mounting the payload at %s: %w", m.target, err)
	}
	return "payload at MiB " + fmt.Sprint(offset/payloadAlign), nil
}
