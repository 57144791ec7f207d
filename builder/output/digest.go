package output

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// digest is the SHA-256 of the disk image whose tables are in the file disk, from the partitions' contents: it never
// reads the holes, which are most of a disk.
func (d Disk) digest(disk string) (string, error) {
	sum := sha256.New()
	tables, err := os.Open(disk)
	if err != nil {
		return "", err
	}
	defer tables.Close()
	if _, err := io.Copy(sum, io.NewSectionReader(tables, 0, reserved)); err != nil {
		return "", err
	}
	end := int64(reserved)
	for _, p := range d.Partitions {
		hashZeros(sum, p.Offset-end)
		n, err := hashContent(sum, p.Content)
		if err != nil {
			return "", err
		}
		hashZeros(sum, p.Size-n)
		end = p.Offset + p.Size
	}
	if _, err := io.Copy(sum, io.NewSectionReader(tables, end, d.Size-end)); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hashContent adds a file, holes as zeros, and returns its size.
func hashContent(sum hash.Hash, path string) (int64, error) {
	if path == "" {
		return 0, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	for at := int64(0); at < size; {
		begin, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			hashZeros(sum, size-at)
			break
		}
		if err != nil {
			return 0, err
		}
		hashZeros(sum, begin-at)
		if at, err = unix.Seek(int(file.Fd()), begin, unix.SEEK_HOLE); err != nil {
			return 0, err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, io.NewSectionReader(file, begin, at-begin), make([]byte, 1<<20)); err != nil {
			return 0, err
		}
	}
	return size, nil
}

func hashZeros(sum hash.Hash, n int64) {
	var zeros [1 << 16]byte
	for ; n > 0; n -= int64(len(zeros)) {
		sum.Write(zeros[:min(n, int64(len(zeros)))])
	}
}
