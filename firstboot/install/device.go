package install

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Storage is where a disk's bytes are. Offsets and lengths are whole sectors.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when everything written is on the medium.
	Sync() error
}

// Target is a disk that is open.
type Target struct {
	// Path names the disk for people, and finds its partitions.
	Path string
	// Size and Sector are in bytes.
	Size, Sector int64
	Storage      Storage
	// Changed has the kernel read the partition table again; nil when no kernel knows of the disk.
	Changed func() error
	Close   func() error
}

// memoryAlignment is what direct input and output want of a buffer's address, on every device.
const memoryAlignment = 4096

// alignedBuffer is n bytes that direct input and output may use. The garbage collector does not move them.
func alignedBuffer(n int) []byte {
	buffer := make([]byte, n+memoryAlignment)
	return buffer[misalignment(buffer):][:n:n]
}

// misalignment is how many bytes lie before the first aligned one.
func misalignment(buffer []byte) int {
	return int(-uintptr(unsafe.Pointer(unsafe.SliceData(buffer)))) & (memoryAlignment - 1)
}

// Open opens the disk at path: a block device, or a plain file with 512-byte sectors. With write, nobody else may use the
// disk or one of its partitions: one that is mounted, or that holds the live system's medium, is refused.
func Open(path string, write bool) (*Target, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR | unix.O_EXCL
	}
	// Past the cache: what is read back comes from the disk, and hundreds of MiB do not push out the live system.
	file, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	direct := err == nil
	if errors.Is(err, unix.EINVAL) {
		file, err = os.OpenFile(path, flags, 0)
	}
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("opening %s: it is in use: one of its partitions is mounted, or holds the live system; unmount it, or choose another disk", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening disk: %w", err)
	}
	if write {
		if err := lock(file); err != nil {
			file.Close()
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
	}
	t := &Target{Path: path, Sector: 512, Close: file.Close}
	if err := t.measure(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	t.Storage = &block{file: file, direct: direct}
	return t, nil
}

func (t *Target) measure(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		t.Size = info.Size() / t.Sector * t.Sector
		return nil
	}
	sector, err := unix.IoctlGetInt(int(file.Fd()), unix.BLKSSZGET)
	if err != nil {
		return fmt.Errorf("asking for the sector size: %w", err)
	}
	if t.Size, err = file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	t.Sector = int64(sector)
	t.Changed = func() error {
		// Whoever looks at a partition of before keeps the kernel from forgetting it, for a moment.
		err := patiently(func() error { _, err := unix.IoctlRetInt(int(file.Fd()), unix.BLKRRPART); return err }, unix.EBUSY)
		if err != nil {
			return fmt.Errorf("having the kernel read the partition table: %w", err)
		}
		return nil
	}
	return nil
}

// lock keeps udev from probing the disk while it is written (systemd.io/BLOCK_DEVICE_LOCKING). The lock ends with the file.
func lock(file *os.File) error {
	err := patiently(func() error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) }, unix.EWOULDBLOCK)
	if err != nil {
		return fmt.Errorf("locking it against other programs: %w", err)
	}
	return nil
}

// patience is how long others may hold on to a disk that they only look at.
const patience = 10 * time.Second

// patiently tries again for a while as long as the answer is busy.
func patiently(try func() error, busy error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if err := try(); !errors.Is(err, busy) || time.Now().After(deadline) {
			return err
		}
	}
}

// block is a block device or a file.
type block struct {
	file   *os.File
	direct bool
}

// ReadAt implements io.ReaderAt.
func (b *block) ReadAt(p []byte, offset int64) (int, error) {
	if !b.direct {
		// Nothing that was written may come back from the cache.
		_ = unix.Fadvise(int(b.file.Fd()), offset, int64(len(p)), unix.FADV_DONTNEED)
	}
	if !b.direct || misalignment(p) == 0 {
		return b.file.ReadAt(p, offset)
	}
	buffer := alignedBuffer(len(p))
	n, err := b.file.ReadAt(buffer, offset)
	return copy(p, buffer[:n]), err
}

// WriteAt implements io.WriterAt.
func (b *block) WriteAt(p []byte, offset int64) (int, error) {
	if b.direct && misalignment(p) != 0 {
		buffer := alignedBuffer(len(p))
		copy(buffer, p)
		p = buffer
	}
	return b.file.WriteAt(p, offset)
}

// Sync implements Storage.
func (b *block) Sync() error { return b.file.Sync() }
