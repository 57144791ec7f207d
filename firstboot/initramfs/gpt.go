package initramfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// table is a GUID partition table, as far as finding and adding partitions needs it (UEFI specification, section 5.3).
// The kernel of Debian trixie does not tell a partition's UUID in sysfs, so the table is read from the disk.
type table struct {
	sectorSize int64
	// sectors is the size of the disk; it may have grown since the table was written.
	sectors int64
	entries []entry
	// reserved is how many sectors the backup table takes at the end of the disk.
	reserved int64
}

// entry is one partition. First and last are sectors, both inclusive; UUIDs are in lower case.
type entry struct {
	number      int
	kind, uuid  string
	first, last int64
	label       string
}

// errNoTable says that a disk has no GPT.
var errNoTable = errors.New("no GUID partition table")

const (
	headerSize  = 92
	maxEntries  = 1024
	maxEntryLen = 4096
	// grain is what partitions are aligned to.
	grain = 1 << 20
)

// readTable reads the table of a disk of size bytes; when the first is damaged, the backup at the disk's end counts.
func readTable(disk io.ReaderAt, sectorSize, size int64) (table, error) {
	t := table{sectorSize: sectorSize, sectors: size / sectorSize}
	err := t.readAt(disk, 1)
	if err == nil {
		return t, nil
	}
	if t.readAt(disk, t.sectors-1) == nil {
		return t, nil
	}
	return t, err
}

func (t *table) readAt(disk io.ReaderAt, lba int64) error {
	header := make([]byte, t.sectorSize)
	if _, err := disk.ReadAt(header, lba*t.sectorSize); err != nil {
		return fmt.Errorf("reading the partition table: %w", err)
	}
	if !bytes.HasPrefix(header, []byte("EFI PART")) {
		return errNoTable
	}
	length := binary.LittleEndian.Uint32(header[12:])
	if length < headerSize || int64(length) > t.sectorSize {
		return fmt.Errorf("partition table: header of %d bytes", length)
	}
	sum := binary.LittleEndian.Uint32(header[16:])
	clear(header[16:20])
	if crc32.ChecksumIEEE(header[:length]) != sum {
		return errors.New("partition table: wrong checksum of the header")
	}
	count, width := int64(binary.LittleEndian.Uint32(header[80:])), int64(binary.LittleEndian.Uint32(header[84:]))
	if count > maxEntries || width < 128 || width > maxEntryLen {
		return fmt.Errorf("partition table: %d entries of %d bytes", count, width)
	}
	entries := make([]byte, count*width)
	if _, err := disk.ReadAt(entries, int64(binary.LittleEndian.Uint64(header[72:]))*t.sectorSize); err != nil {
		return fmt.Errorf("reading the partition table: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(header[88:]) {
		return errors.New("partition table: wrong checksum of the entries")
	}
	t.reserved = (count*width+t.sectorSize-1)/t.sectorSize + 1
	t.entries = parseEntries(entries, int(width))
	return nil
}

func parseEntries(raw []byte, width int) []entry {
	var entries []entry
	for i := 0; (i+1)*width <= len(raw); i++ {
		e := raw[i*width : (i+1)*width]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		units := make([]uint16, 36)
		for j := range units {
			units[j] = binary.LittleEndian.Uint16(e[56+2*j:])
		}
		label, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
		entries = append(entries, entry{
			number: i + 1, kind: guid(e[:16]), uuid: guid(e[16:32]), label: label,
			first: int64(binary.LittleEndian.Uint64(e[32:])), last: int64(binary.LittleEndian.Uint64(e[40:])),
		})
	}
	return entries
}

// guid renders the mixed-endian form that tables hold.
func guid(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

// lastEntry is the entry that lies furthest back on the disk; its number is 0 when there is none.
func (t table) lastEntry() entry {
	var last entry
	for _, e := range t.entries {
		if e.last >= last.last {
			last = e
		}
	}
	return last
}

// unused is how many bytes a partition behind the last one could have, in whole grains.
func (t table) unused() int64 {
	start := ((t.lastEntry().last+1)*t.sectorSize + grain - 1) / grain * grain
	end := (t.sectors - t.reserved) * t.sectorSize / grain * grain
	return max(0, end-start)
}

func (t table) bytes(e entry) int64 { return (e.last - e.first + 1) * t.sectorSize }
