package initramfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"unicode/utf16"
)

const testSector = 512

// testDisk makes a disk of so many MiB with a table at its beginning and a backup at its end.
func testDisk(mib int64, entries ...entry) []byte {
	disk := make([]byte, mib<<20)
	raw := make([]byte, 128*128)
	for _, e := range entries {
		at := raw[(e.number-1)*128:]
		copy(at, rawGUID(e.kind))
		copy(at[16:], rawGUID(e.uuid))
		binary.LittleEndian.PutUint64(at[32:], uint64(e.first))
		binary.LittleEndian.PutUint64(at[40:], uint64(e.last))
		for i, unit := range utf16.Encode([]rune(e.label)) {
			binary.LittleEndian.PutUint16(at[56+2*i:], unit)
		}
	}
	last := int64(len(disk)/testSector) - 1
	for _, place := range []struct{ header, entries int64 }{{1, 2}, {last, last - 32}} {
		copy(disk[place.entries*testSector:], raw)
		header := disk[place.header*testSector:]
		copy(header, "EFI PART\x00\x00\x01\x00")
		binary.LittleEndian.PutUint32(header[12:], headerSize)
		binary.LittleEndian.PutUint64(header[72:], uint64(place.entries))
		binary.LittleEndian.PutUint32(header[80:], 128)
		binary.LittleEndian.PutUint32(header[84:], 128)
		binary.LittleEndian.PutUint32(header[88:], crc32.ChecksumIEEE(raw))
		binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:headerSize]))
	}
	return disk
}

// rawGUID is the mixed-endian form of a UUID's text.
func rawGUID(text string) []byte {
	digits := strings.ReplaceAll(text, "-", "")
	raw := make([]byte, 16)
	for i := range raw {
		raw[i] = hexByte(digits[2*i:])
	}
	for _, swap := range [][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		raw[swap[0]], raw[swap[1]] = raw[swap[1]], raw[swap[0]]
	}
	return raw
}

func hexByte(text string) byte {
	const digits = "0123456789abcdef"
	return byte(strings.IndexByte(digits, text[0])<<4 | strings.IndexByte(digits, text[1]))
}

const linuxRoot = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"

func twoPartitions() []entry {
	return []entry{
		{number: 1, kind: linuxRoot, uuid: "00112233-4455-6677-8899-aabbccddeeff", first: 2048, last: 4095, label: "root-a"},
		{number: 3, kind: linuxRoot, uuid: "ffeeddcc-bbaa-9988-7766-554433221100", first: 4096, last: 6143, label: "größer"},
	}
}

func TestReadTable(t *testing.T) {
	damage := func(disk []byte, at int) []byte { disk[at] ^= 1; return disk }
	whole := func() []byte { return testDisk(8, twoPartitions()...) }
	last := 8<<20 - testSector
	for _, c := range []struct {
		name string
		disk []byte
		want string // part of the error; empty is success
	}{
		{"whole", whole(), ""},
		{"damaged header, backup counts", damage(whole(), testSector+40), ""},
		{"damaged entries, backup counts", damage(whole(), 2*testSector+60), ""},
		{"both damaged", damage(damage(whole(), 2*testSector+60), last+30), "wrong checksum of the entries"},
		{"empty disk", make([]byte, 8<<20), "no GUID partition table"},
		{"disk of one sector", make([]byte, testSector), "reading the partition table"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readTable(bytes.NewReader(c.disk), testSector, int64(len(c.disk)))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error is %v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range twoPartitions() {
				if got.entries[i] != want {
					t.Errorf("entry %d is %+v, want %+v", i, got.entries[i], want)
				}
			}
		})
	}
	if _, err := readTable(bytes.NewReader(make([]byte, 1<<20)), testSector, 1<<20); !errors.Is(err, errNoTable) {
		t.Errorf("empty disk: %v", err)
	}
}

func TestUnused(t *testing.T) {
	disk := testDisk(8, twoPartitions()...)
	got, err := readTable(bytes.NewReader(disk), testSector, int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	// Partitions end at 3 MiB; the backup table takes part of the last one.
	if got.unused() != 4<<20 || got.lastEntry().number != 3 {
		t.Errorf("unused is %d bytes behind partition %d", got.unused(), got.lastEntry().number)
	}
	got.sectors = 12 << 20 / testSector // The disk was enlarged.
	if got.unused() != 8<<20 {
		t.Errorf("unused on the larger disk is %d bytes", got.unused())
	}
	got.sectors = 3 << 20 / testSector
	if got.unused() != 0 {
		t.Errorf("unused on a full disk is %d bytes", got.unused())
	}
	if size := got.bytes(twoPartitions()[0]); size != 1<<20 {
		t.Errorf("size of the partition is %d", size)
	}
}
