package initramfs

import (
	"bytes"
	"io"
	"strings"
)

// labelOf reads a filesystem's label: iso9660's volume identifier, ext4's name, FAT's label in its boot sector.
func labelOf(device io.ReaderAt) string {
	for _, place := range map[string][]struct{ offset, size int64 }{
		"iso9660": {{32808, 32}}, "ext4": {{1144, 16}}, "vfat": {{71, 11}},
	}[filesystemOf(device)] {
		offset := place.offset
		// FAT16 has its label elsewhere than FAT32.
		if fat16 := make([]byte, 5); place.size == 11 {
			if _, err := device.ReadAt(fat16, 54); err == nil && bytes.HasPrefix(fat16, []byte("FAT1")) {
				offset = 43
			}
		}
		label := make([]byte, place.size)
		if _, err := device.ReadAt(label, offset); err != nil {
			return ""
		}
		return strings.TrimRight(string(label), "\x00 ")
	}
	return ""
}

// oemStrings lists the texts of all structures of type 11 in a DMI table (DMTF DSP0134, 6.1.3 and 7.12): a header of four bytes with type and
// length, the fields, and then texts that end in a zero, the last one in two.
func oemStrings(table []byte) []string {
	var texts []string
	for len(table) >= 4 && int(table[1]) >= 4 && int(table[1]) <= len(table) {
		kind, rest := table[0], table[table[1]:]
		end := bytes.Index(rest, []byte{0, 0})
		if end < 0 {
			break
		}
		if kind == 11 {
			for text := range bytes.SplitSeq(rest[:end], []byte{0}) {
				texts = append(texts, string(text))
			}
		}
		table = rest[end+2:]
	}
	return texts
}
