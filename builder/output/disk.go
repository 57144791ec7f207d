package output

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/document"
)

// Sector is the disk's logical sector size in bytes.
const Sector = 512

// reserved is kept free at both ends of the disk for the partition tables: partitions begin on whole MiB.
const reserved = 1 << 20

// Partition is one entry of the partition table.
type Partition struct {
	// Label is the partition's name, at most 36 UTF-16 units.
	Label string
	// Type and ID are GUIDs in text form.
	Type string
	ID   string
	// Offset and Size are in bytes, whole MiB.
	Offset int64
	Size   int64
	// ReadOnly sets GPT attribute bit 60.
	ReadOnly bool
	// Content is the host file with the partition's content; empty leaves it zero.
	Content string
}

// Disk is a raw GPT disk image.
type Disk struct {
	// ID is the disk's GUID.
	ID string
	// Size is the whole disk's size in bytes.
	Size       int64
	Partitions []Partition
}

// attributeReadOnly is GPT attribute bit 60 (Discoverable Partitions Specification).
const attributeReadOnly = 1 << 60

// Write makes the disk image out, sparse where the contents are, and returns its SHA-256 in hex. It refuses partitions
// that overlap, lie outside the disk or are smaller than their content: go-diskfs checks none of that.
func (d Disk) Write(out string) (string, error) {
	if err := d.check(); err != nil {
		return "", err
	}
	if err := d.writeTable(out); err != nil {
		return "", fmt.Errorf("writing the partition table: %w", err)
	}
	// The digest takes as long as the copying, and needs only the table and what is copied.
	type digested struct {
		sum string
		err error
	}
	sum := make(chan digested, 1)
	go func() {
		text, err := d.digest(out)
		sum <- digested{text, err}
	}()
	err := d.copyContents(out)
	digest := <-sum
	return digest.sum, errors.Join(err, digest.err)
}

func (d Disk) writeTable(out string) error {
	storage, err := file.CreateFromPath(out, d.Size)
	if err != nil {
		return err
	}
	defer storage.Close()
	writable, err := storage.Writable()
	if err != nil {
		return err
	}
	return d.table().Write(writable, d.Size)
}

func (d Disk) copyContents(out string) error {
	target, err := os.OpenFile(out, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	for _, p := range d.Partitions {
		if p.Content == "" {
			continue
		}
		if err := copySparse(target, p.Offset, p.Content); err != nil {
			return fmt.Errorf("writing partition %s: %w", p.Label, err)
		}
	}
	return target.Close()
}

func (d Disk) table() *gpt.Table {
	table := &gpt.Table{LogicalSectorSize: Sector, PhysicalSectorSize: Sector, GUID: d.ID, ProtectiveMBR: true}
	for i, p := range d.Partitions {
		entry := &gpt.Partition{Index: i + 1, Start: uint64(p.Offset / Sector), Size: uint64(p.Size), Type: gpt.Type(p.Type), Name: p.Label, GUID: p.ID}
		if p.ReadOnly {
			entry.Attributes = attributeReadOnly
		}
		table.Partitions = append(table.Partitions, entry)
	}
	return table
}

func (d Disk) check() error {
	var errs []error
	end := int64(reserved)
	for _, p := range d.Partitions {
		if p.Offset < end {
			errs = append(errs, fmt.Errorf("partition %s: begins at %d, before %d where it may", p.Label, p.Offset, end))
		}
		if p.Offset%reserved != 0 || p.Size%reserved != 0 || p.Size == 0 {
			errs = append(errs, fmt.Errorf("partition %s: offset %d and size %d are not whole MiB", p.Label, p.Offset, p.Size))
		}
		if len(utf16.Encode([]rune(p.Label))) > 36 {
			errs = append(errs, fmt.Errorf("partition %s: its name is longer than 36 characters", p.Label))
		}
		errs = append(errs, p.fits())
		end = p.Offset + p.Size
	}
	if end > d.Size-reserved {
		errs = append(errs, fmt.Errorf("the partitions end at %d, the disk of %d bytes has room up to %d", end, d.Size, d.Size-reserved))
	}
	return errors.Join(errs...)
}

func (p Partition) fits() error {
	if p.Content == "" {
		return nil
	}
	info, err := os.Stat(p.Content)
	if err != nil {
		return err
	}
	if info.Size() > p.Size {
		return &TooLargeError{Partition: p.Label, Need: info.Size(), Have: p.Size}
	}
	return nil
}

// TooLargeError says that a partition is smaller than its content.
type TooLargeError struct {
	Partition  string
	Need, Have int64
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("partition %s is %s, its content needs %s", e.Partition, document.Size(e.Have), document.Size(e.Need))
}

// copySparse copies the data of a file, not its holes, to an offset of another.
func copySparse(target *os.File, offset int64, path string) error {
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	for at := int64(0); ; {
		begin, err := unix.Seek(int(source.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		at, err = unix.Seek(int(source.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(target, offset+begin, source, begin, at-begin); err != nil {
			return err
		}
	}
}

func copyRange(target *os.File, to int64, source *os.File, from, n int64) error {
	if _, err := source.Seek(from, io.SeekStart); err != nil {
		return err
	}
	if _, err := target.Seek(to, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(target, source, n)
	return err
}

// DeriveGUID makes a GUID from text: the same text gives the same GUID. It is a version 8 UUID (RFC 9562): custom.
func DeriveGUID(text string) string {
	sum := sha256.Sum256([]byte(text))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return FormatGUID(sum[:16])
}

// FormatGUID writes 16 bytes in the order of the text form.
func FormatGUID(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}

// VerityGUIDs splits a root hash into the partition GUIDs of the data and of the hash tree: its first and its last 128
// bits (Discoverable Partitions Specification), so that a root hash alone finds both.
func VerityGUIDs(rootHash string) (data, tree string, err error) {
	raw, err := hex.DecodeString(rootHash)
	if err != nil || len(raw) < 32 {
		return "", "", fmt.Errorf("root hash %q is not 32 bytes of hex", rootHash)
	}
	return FormatGUID(raw[:16]), FormatGUID(raw[len(raw)-16:]), nil
}
