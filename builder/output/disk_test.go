package output

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const mib = 1 << 20

const (
	typeESP  = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	typeRoot = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
)

// sparse is a file of size bytes with text at some offsets and holes elsewhere.
func sparse(t *testing.T, size int64, texts map[int64]string) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "content"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for at, text := range texts {
		if _, err := out.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func testDisk(t *testing.T) Disk {
	return Disk{ID: DeriveGUID("disk"), Size: 10 * mib, Partitions: []Partition{
		{Label: "esp", Type: typeESP, ID: DeriveGUID("esp"), Offset: mib, Size: 3 * mib,
			Content: sparse(t, 2*mib+100, map[int64]string{0: "begin", mib + 17: "middle", 2*mib + 90: "end"})},
		{Label: "root-a", Type: typeRoot, ID: DeriveGUID("a"), Offset: 4 * mib, Size: mib, ReadOnly: true, Content: sparse(t, mib, map[int64]string{mib - 4: "full"})},
		{Label: "root-b", Type: typeRoot, ID: DeriveGUID("b"), Offset: 6 * mib, Size: 2 * mib, ReadOnly: true},
	}}
}

// writeRaw writes the disk as it is.
func writeRaw(t *testing.T, disk Disk, out string) (sum string, err error) {
	t.Helper()
	target, err := CreateRaw(out)
	if err != nil {
		t.Fatal(err)
	}
	sums, err := disk.Write(target)
	return sums[0], err
}

func TestDisk(t *testing.T) {
	disk := testDisk(t)
	disk.BootCode = bytes.Repeat([]byte{0xeb}, 440)
	out := filepath.Join(t.TempDir(), "disk.raw")
	sum, err := writeRaw(t, disk, out)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(raw); sum != hex.EncodeToString(want[:]) {
		t.Errorf("Write says %s, the file has %x", sum, want)
	}
	if int64(len(raw)) != disk.Size {
		t.Errorf("the disk has %d bytes; want %d", len(raw), disk.Size)
	}
	if !bytes.Equal(raw[:440], disk.BootCode) || raw[450] != 0xee || raw[510] != 0x55 || raw[511] != 0xaa {
		t.Errorf("the first sector is not boot code and a protective table: %x", raw[:512])
	}
	for _, p := range disk.Partitions {
		want := make([]byte, p.Size)
		if p.Content != "" {
			text, err := os.ReadFile(p.Content)
			if err != nil {
				t.Fatal(err)
			}
			copy(want, text)
		}
		if !bytes.Equal(raw[p.Offset:p.Offset+p.Size], want) {
			t.Errorf("partition %s does not hold its content", p.Label)
		}
	}
	checkTable(t, disk, out)

	again := filepath.Join(t.TempDir(), "disk.raw")
	if _, err := writeRaw(t, disk, again); err != nil {
		t.Fatal(err)
	}
	if other, err := os.ReadFile(again); err != nil || !bytes.Equal(other, raw) {
		t.Errorf("the same disk has other bytes the second time (%v)", err)
	}
}

func checkTable(t *testing.T, disk Disk, path string) {
	t.Helper()
	storage, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	table, err := gpt.Read(storage, Sector, Sector)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.EqualFold(table.GUID, disk.ID) {
		t.Errorf("the disk's GUID is %s; want %s", table.GUID, disk.ID)
	}
	for i, want := range disk.Partitions {
		got := table.Partitions[i]
		if int64(got.Start)*Sector != want.Offset || int64(got.Size) != want.Size || got.Name != want.Label ||
			!strings.EqualFold(string(got.Type), want.Type) || !strings.EqualFold(got.GUID, want.ID) || (got.Attributes == 1<<60) != want.ReadOnly {
			t.Errorf("partition %d is %+v; want %+v", i, got, want)
		}
	}
}

func TestDiskIsChecked(t *testing.T) {
	for _, row := range []struct {
		summary string
		change  func(d *Disk)
		want    []string
	}{
		{"overlap", func(d *Disk) { d.Partitions[1].Offset = 3 * mib }, []string{"partition root-a: begins at 3145728, before 4194304 where it may"}},
		{"over the table", func(d *Disk) { d.Partitions[0].Offset = 0 }, []string{"partition esp: begins at 0, before 1048576"}},
		{"over the second table", func(d *Disk) { d.Partitions[2].Size = 4 * mib }, []string{"the partitions end at 10485760, the disk of 10485760 bytes has room up to 9437184"}},
		{"beyond the disk", func(d *Disk) { d.Size = 5 * mib }, []string{"the partitions end at 8388608"}},
		{"odd disk", func(d *Disk) { d.Size += 512 }, []string{"the disk of 10486272 bytes is not a whole number of MiB"}},
		{"odd offset", func(d *Disk) { d.Partitions[2].Offset += 512 }, []string{"partition root-b: offset 6291968 and size 2097152 are not whole MiB"}},
		{"no size", func(d *Disk) { d.Partitions[2].Size = 0 }, []string{"partition root-b: offset 6291456 and size 0"}},
		{"label too long", func(d *Disk) { d.Partitions[2].Label = strings.Repeat("ä", 37) }, []string{"its name is longer than 36 characters"}},
		{"content too large", func(d *Disk) { d.Partitions[1].Content = sparse(t, mib+1, nil) }, []string{"partition root-a is 1MiB, its content needs 1.0MiB"}},
		{"no content", func(d *Disk) { d.Partitions[1].Content += ".none" }, []string{"no such file"}},
		{"all at once", func(d *Disk) { d.Partitions[0].Offset, d.Size = 0, 2*mib }, []string{"partition esp: begins at 0", "the partitions end at"}},
	} {
		t.Run(row.summary, func(t *testing.T) {
			disk := testDisk(t)
			row.change(&disk)
			out := filepath.Join(t.TempDir(), "disk.raw")
			_, err := writeRaw(t, disk, out)
			for _, want := range row.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v; want %q", err, want)
				}
			}
			if info, err := os.Stat(out); err != nil || info.Size() != 0 {
				t.Errorf("something was written: %v, %v", info, err)
			}
		})
	}
	disk := testDisk(t)
	disk.Partitions[1].Content = sparse(t, 2*mib, nil)
	_, err := writeRaw(t, disk, filepath.Join(t.TempDir(), "disk.raw"))
	if large, ok := errors.AsType[*TooLargeError](err); !ok || large.Partition != "root-a" || large.Need != 2*mib || large.Have != mib {
		t.Errorf("error is %v", err)
	}
	// The longest name that fits: 36 UTF-16 units.
	disk = testDisk(t)
	disk.Partitions[2].Label = strings.Repeat("ä", 36)
	if _, err := writeRaw(t, disk, filepath.Join(t.TempDir(), "disk.raw")); err != nil {
		t.Errorf("a name of 36 characters: %v", err)
	}
}

func TestGUIDs(t *testing.T) {
	one := DeriveGUID("one")
	if one != DeriveGUID("one") || one == DeriveGUID("two") {
		t.Errorf("the GUID of one is %s, then %s; that of two is %s", one, DeriveGUID("one"), DeriveGUID("two"))
	}
	// RFC 9562, section 5.8: version 8; section 4.1: variant 10.
	if len(one) != 36 || one[14] != '8' || !strings.ContainsRune("89ab", rune(one[19])) {
		t.Errorf("%s is not a version 8 UUID", one)
	}
	data, tree, err := VerityGUIDs("00112233445566778899aabbccddeeff" + "0123456789abcdef0123456789abcdef")
	if err != nil || data != "00112233-4455-6677-8899-aabbccddeeff" || tree != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("the root hash's GUIDs are %s and %s, %v", data, tree, err)
	}
	for _, wrong := range []string{"", "0011", strings.Repeat("x", 64)} {
		if _, _, err := VerityGUIDs(wrong); err == nil || !strings.Contains(err.Error(), "is not 32 bytes of hex") {
			t.Errorf("root hash %q: error is %v", wrong, err)
		}
	}
}
