package install

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"

	manifest "github.com/kiln-os/kiln/internal/install"
)

// Sizes of a GUID partition table (UEFI specification, section 5.3).
const (
	headerSize  = 92
	entrySize   = 128
	entryCount  = 128
	entriesSize = entrySize * entryCount
	// maxEntriesSize bounds what is read of a table that somebody else made.
	maxEntriesSize = 1 << 20
)

// Attributes of an entry: bit 2 by the UEFI specification, bit 60 by the Discoverable Partitions Specification.
const (
	attributeLegacyBoot = 1 << 2
	attributeReadOnly   = 1 << 60
)

// piece is bytes and where on the disk they belong.
type piece struct {
	offset int64
	bytes  []byte
}

// table is a partition table as bytes, in the order in which it has to be written: until head is there, no firmware and no
// kernel sees a partition through the first table, and then the whole of it.
type table struct {
	backupEntries, backupHeader, entries, head piece
}

// newTable renders the table of a disk of that size and sector size, in bytes. BootCode comes into its first sector.
func newTable(d manifest.Disk, size, sector int64, bootCode []byte) (table, error) {
	sectors := size / sector
	raw, err := encodeEntries(d.Partitions, sector)
	if err != nil {
		return table{}, err
	}
	id, err := encodeGUID(d.ID)
	if err != nil {
		return table{}, err
	}
	entrySectors := (entriesSize + sector - 1) / sector
	header := func(own, other, entries int64) []byte {
		h := make([]byte, sector)
		copy(h, "EFI PART\x00\x00\x01\x00")
		binary.LittleEndian.PutUint32(h[12:], headerSize)
		binary.LittleEndian.PutUint64(h[24:], uint64(own))
		binary.LittleEndian.PutUint64(h[32:], uint64(other))
		binary.LittleEndian.PutUint64(h[40:], uint64(2+entrySectors))
		binary.LittleEndian.PutUint64(h[48:], uint64(sectors-2-entrySectors))
		copy(h[56:], id)
		binary.LittleEndian.PutUint64(h[72:], uint64(entries))
		binary.LittleEndian.PutUint32(h[80:], entryCount)
		binary.LittleEndian.PutUint32(h[84:], entrySize)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(raw))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
		return h
	}
	padded := make([]byte, entrySectors*sector)
	copy(padded, raw)
	last := sectors - 1
	return table{
		backupEntries: piece{(last - entrySectors) * sector, padded},
		backupHeader:  piece{last * sector, header(last, 1, last-entrySectors)},
		entries:       piece{2 * sector, padded},
		head:          piece{0, append(protectiveMBR(sectors, sector, bootCode), header(1, last, 2)...)},
	}, nil
}

// protectiveMBR is the first sector: it claims the whole disk towards programs that know no GUID partition table.
func protectiveMBR(sectors, sector int64, bootCode []byte) []byte {
	mbr := make([]byte, sector)
	copy(mbr[:manifest.BootCodeSize], bootCode)
	copy(mbr[446:], []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(mbr[458:], uint32(min(sectors-1, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

func encodeEntries(partitions []manifest.Partition, sector int64) ([]byte, error) {
	raw := make([]byte, entriesSize)
	if len(partitions) > entryCount {
		return nil, fmt.Errorf("%d partitions, and a table has room for %d", len(partitions), entryCount)
	}
	for i, p := range partitions {
		e := raw[i*entrySize:][:entrySize]
		kind, err := encodeGUID(p.Type)
		id, idErr := encodeGUID(p.ID)
		if err := errors.Join(err, idErr); err != nil {
			return nil, fmt.Errorf("partition %s: %w", p.Label, err)
		}
		copy(e, kind)
		copy(e[16:], id)
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Offset/sector))
		binary.LittleEndian.PutUint64(e[40:], uint64(p.End()/sector-1))
		binary.LittleEndian.PutUint64(e[48:], attributes(p))
		for j, unit := range utf16.Encode([]rune(p.Label)) {
			binary.LittleEndian.PutUint16(e[56+2*j:], unit)
		}
	}
	return raw, nil
}

func attributes(p manifest.Partition) uint64 {
	var bits uint64
	if p.ReadOnly {
		bits |= attributeReadOnly
	}
	if p.LegacyBoot {
		bits |= attributeLegacyBoot
	}
	return bits
}

// encodeGUID is the mixed-endian form of a GUID in text form (UEFI specification, appendix A).
func encodeGUID(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return nil, fmt.Errorf("%q is no GUID", text)
	}
	return []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}, nil
}

// decodeGUID is the text form of a GUID in its mixed-endian form.
func decodeGUID(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

// entry is one partition of a table that was read.
type entry struct {
	number     int
	kind, id   string
	label      string
	offset     int64
	size       int64
	attributes uint64
}

// readTable reads the table of a disk; the backup at its end counts when the first one is damaged. False means that the
// disk has none.
func readTable(t *Target) ([]entry, bool, error) {
	for _, lba := range []int64{1, t.Size/t.Sector - 1} {
		entries, err := readTableAt(t, lba)
		switch {
		case err == nil:
			return entries, true, nil
		case !errors.Is(err, errNoTable):
			return nil, false, err
		}
	}
	return nil, false, nil
}

// errNoTable says that there is no whole partition table.
var errNoTable = errors.New("no GUID partition table")

func readTableAt(t *Target, lba int64) ([]entry, error) {
	header := make([]byte, t.Sector)
	if err := readFull(t, header, lba*t.Sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	length := int64(binary.LittleEndian.Uint32(header[12:]))
	if !bytes.HasPrefix(header, []byte("EFI PART")) || length < headerSize || length > t.Sector {
		return nil, errNoTable
	}
	sum := binary.LittleEndian.Uint32(header[16:])
	clear(header[16:20])
	at := int64(binary.LittleEndian.Uint64(header[72:]))
	count, width := int64(binary.LittleEndian.Uint32(header[80:])), int64(binary.LittleEndian.Uint32(header[84:]))
	if crc32.ChecksumIEEE(header[:length]) != sum || width < entrySize || count > maxEntriesSize/width || at < 1 || at >= t.Size/t.Sector {
		return nil, errNoTable
	}
	raw := make([]byte, (count*width+t.Sector-1)/t.Sector*t.Sector)
	if at*t.Sector+int64(len(raw)) > t.Size {
		return nil, errNoTable
	}
	if err := readFull(t, raw, at*t.Sector); err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	if raw = raw[:count*width]; crc32.ChecksumIEEE(raw) != binary.LittleEndian.Uint32(header[88:]) {
		return nil, errNoTable
	}
	return decodeEntries(raw, int(width), t.Sector), nil
}

func decodeEntries(raw []byte, width int, sector int64) []entry {
	var entries []entry
	for i := 0; (i+1)*width <= len(raw); i++ {
		e := raw[i*width:][:width]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		units := make([]uint16, 36)
		for j := range units {
			units[j] = binary.LittleEndian.Uint16(e[56+2*j:])
		}
		label, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
		first, last := int64(binary.LittleEndian.Uint64(e[32:])), int64(binary.LittleEndian.Uint64(e[40:]))
		entries = append(entries, entry{
			number: i + 1, kind: decodeGUID(e), id: decodeGUID(e[16:]), label: label,
			offset: first * sector, size: (last - first + 1) * sector, attributes: binary.LittleEndian.Uint64(e[48:]),
		})
	}
	return entries
}

// labelled is the entry with a label.
func labelled(entries []entry, label string) (entry, bool) {
	for _, e := range entries {
		if e.label == label {
			return e, true
		}
	}
	return entry{}, false
}
