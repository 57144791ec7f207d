package output

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/partition/gpt"

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
	// BootCode is what a BIOS starts: at most 440 bytes for the beginning of the first sector. Empty leaves it zero.
	BootCode []byte
}

// bootCodeSize is the room for code in the first sector of a GPT disk (UEFI specification, 5.2.3, "Protective MBR").
const bootCodeSize = 440

// attributeReadOnly is GPT attribute bit 60 (Discoverable Partitions Specification).
const attributeReadOnly = 1 << 60

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
	if len(d.BootCode) > bootCodeSize {
		errs = append(errs, fmt.Errorf("the boot code has %d bytes; the first sector has room for %d", len(d.BootCode), bootCodeSize))
	}
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
	if d.Size%reserved != 0 {
		errs = append(errs, fmt.Errorf("the disk of %d bytes is not a whole number of MiB", d.Size))
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

// TooLargeError says that a partition is too small for its content, or for the next years' content.
type TooLargeError struct {
	Partition  string
	Need, Have int64
}

// budget is how many per cent of a partition its content may fill: images grow, and a machine's partitions do not.
const budget = 80

// Least is the size in bytes that the partition should have.
func (e *TooLargeError) Least() int64 { return (e.Need*100 + budget - 1) / budget }

// CheckBudget refuses content that leaves a partition too little room to grow. The error is a *TooLargeError.
func CheckBudget(partition string, content, size int64) error {
	if e := (&TooLargeError{Partition: partition, Need: content, Have: size}); e.Least() > size {
		return e
	}
	return nil
}

// Error implements error.
func (e *TooLargeError) Error() string {
	if e.Need <= e.Have {
		return fmt.Sprintf("partition %s is %s, and %s of content would fill more than %d %% of it", e.Partition, document.Size(e.Have), document.Size(e.Need), budget)
	}
	return fmt.Sprintf("partition %s is %s, its content needs %s", e.Partition, document.Size(e.Have), document.Size(e.Need))
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

// parseGUID gives the 16 bytes in the order of the text form.
func parseGUID(text string) ([]byte, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != 16 {
		return nil, fmt.Errorf("%q is not a GUID", text)
	}
	return raw, nil
}
