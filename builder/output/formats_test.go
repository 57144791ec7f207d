package output

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// age is the time in every file of these tests.
var age = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// forms are the targets, with a reader for each that is none of this package's code.
func forms(d Disk) map[string]struct {
	create func(path string) (Target, error)
	read   func(t *testing.T, file []byte) []byte
} {
	type form = struct {
		create func(path string) (Target, error)
		read   func(t *testing.T, file []byte) []byte
	}
	return map[string]form{
		"raw":  {CreateRaw, func(_ *testing.T, file []byte) []byte { return file }},
		"zstd": {CreateZstd, readZstd},
		"vhd":  {func(path string) (Target, error) { return CreateVHD(path, d.ID, age) }, readVHD},
		"vmdk": {func(path string) (Target, error) { return CreateVMDK(path, d.Size, d.ID) }, readVMDK},
		"gce":  {func(path string) (Target, error) { return CreateGCE(path, d, age) }, readGCE},
	}
}

// largeDisk has data and zeros in every order, more than one table of a VMDK and more than one block of a sparse map.
func largeDisk(t *testing.T, dense bool) Disk {
	t.Helper()
	noise := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 37*mib+12345)
	for at := 0; at+Grain < len(content); at += Grain {
		if kind := at / Grain % 5; at < 4*mib && (kind == 1 || kind == 2) || at > 31*mib {
			_, _ = noise.Read(content[at : at+Grain])
		} else if at < 4*mib && kind == 3 {
			content[at+Grain-1] = 7 // one byte in a grain of zeros
		}
	}
	path := filepath.Join(t.TempDir(), "content")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for at := 0; at < len(content); at += 4096 {
		block := content[at:min(at+4096, len(content))]
		if dense || !isZero(block) {
			if _, err := file.WriteAt(block, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := file.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	return Disk{ID: DeriveGUID("disk"), Size: 42 * mib, Partitions: []Partition{
		{Label: "root-a", Type: typeRoot, ID: DeriveGUID("a"), Offset: mib, Size: 40 * mib, Content: path},
	}}
}

func TestFormatsHoldTheDisk(t *testing.T) {
	sparse, dense := largeDisk(t, false), largeDisk(t, true)
	dir := t.TempDir()
	if _, err := writeRaw(t, sparse, filepath.Join(dir, "want")); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "want"))
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range forms(sparse) {
		t.Run(name, func(t *testing.T) {
			file := made(t, sparse, form.create)
			if got := form.read(t, file); !bytes.Equal(got, want) {
				t.Errorf("what comes out of it is not the disk: %d bytes; want %d", len(got), len(want))
			}
			// Holes are the host's affair: a filesystem without them gives the same file.
			if other := made(t, dense, forms(dense)[name].create); !bytes.Equal(other, file) {
				t.Errorf("of a content without holes the file is another one: %d bytes; want %d", len(other), len(file))
			}
		})
	}
}

// made is the file of one target, whose digest is right.
func made(t *testing.T, d Disk, create func(path string) (Target, error)) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	target, err := create(path)
	if err != nil {
		t.Fatal(err)
	}
	sums, err := d.Write(target)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(file); sums[0] != hex.EncodeToString(sum[:]) {
		t.Errorf("the target says %s, the file has %x", sums[0], sum)
	}
	return file
}

func readZstd(t *testing.T, file []byte) []byte {
	decoder, err := zstd.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	return readAll(t, decoder)
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readVHD(t *testing.T, file []byte) []byte {
	disk, f := file[:len(file)-Sector], file[len(file)-Sector:]
	big := binary.BigEndian
	if string(f[:8]) != "conectix" || big.Uint64(f[48:]) != uint64(len(disk)) || big.Uint32(f[60:]) != 2 {
		t.Errorf("the footer is not that of a fixed disk of %d bytes:\n%x", len(disk), f)
	}
	if seconds := age.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds(); big.Uint32(f[24:]) != uint32(seconds) {
		t.Errorf("its time is %d; want %f", big.Uint32(f[24:]), seconds)
	}
	var sum uint32
	for i, b := range f {
		if i < 64 || i >= 68 {
			sum += uint32(b)
		}
	}
	if big.Uint32(f[64:]) != ^sum {
		t.Errorf("the checksum is %x; want %x", big.Uint32(f[64:]), ^sum)
	}
	return disk
}

func readGCE(t *testing.T, file []byte) []byte {
	zip, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	zip.Multistream(false)
	archive := tar.NewReader(zip)
	header, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != "disk.raw" || header.Format != tar.FormatGNU || header.Typeflag != tar.TypeGNUSparse || !header.ModTime.Equal(age) {
		t.Errorf("the archive holds %+v", header)
	}
	data := readAll(t, archive)
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the disk: %v", err)
	}
	readAll(t, zip) // its end holds the digest
	return data
}

// readVMDK goes by the footer: the directory, its tables, and the grains that they name.
func readVMDK(t *testing.T, file []byte) []byte {
	little := binary.LittleEndian
	footer := file[len(file)-2*Sector:]
	if little.Uint32(file) != 0x564d444b || little.Uint64(file[56:]) != ^uint64(0) || little.Uint32(footer) != 0x564d444b {
		t.Fatalf("no header or footer:\n%x\n%x", file[:80], footer[:80])
	}
	capacity := int64(little.Uint64(footer[12:])) * Sector
	directory := file[little.Uint64(footer[56:])*Sector:]
	disk := make([]byte, capacity)
	for grain := int64(0); grain*Grain < capacity; grain++ {
		table := little.Uint32(directory[grain/512*4:])
		if table == 0 {
			continue
		}
		at := little.Uint32(file[int64(table)*Sector+grain%512*4:])
		if at == 0 {
			continue
		}
		marker := file[int64(at)*Sector:]
		if got := int64(little.Uint64(marker)) * Sector; got != grain*Grain {
			t.Fatalf("grain %d has the marker of offset %d", grain, got)
		}
		r, err := zlib.NewReader(bytes.NewReader(marker[12 : 12+little.Uint32(marker[8:])]))
		if err != nil {
			t.Fatal(err)
		}
		copy(disk[grain*Grain:], readAll(t, r))
	}
	if text := string(file[Sector : 21*Sector]); !strings.Contains(text, `createType="streamOptimized"`) || !strings.Contains(text, fmt.Sprintf(`RW %d SPARSE "disk.vmdk"`, capacity/Sector)) {
		t.Errorf("the descriptor is\n%s", text)
	}
	return disk
}

func TestSparseHeader(t *testing.T) {
	const size = 20 << 30 // more than eleven octal digits
	for _, n := range []int{0, 1, 3, 4, 5, 24, 25, 26, 100} {
		var data []extent
		for i := range n {
			data = append(data, extent{int64(i) << 27, Grain})
		}
		file := append(sparseHeader("disk.raw", size, age, data), make([]byte, n*Grain+tarEnd)...)
		archive := tar.NewReader(bytes.NewReader(file))
		header, err := archive.Next()
		if err != nil || header.Size != size || header.Name != "disk.raw" {
			t.Errorf("%d extents: %+v, %v", n, header, err)
			continue
		}
		if _, err := archive.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%d extents: after the file: %v", n, err)
		}
	}
}

func TestVHDGeometry(t *testing.T) {
	// Worked out by hand from the specification's appendix, each of its cases once.
	for _, row := range []struct {
		mib            int64
		cylinders      uint16
		heads, sectors byte
	}{{10, 301, 4, 17}, {100, 1003, 12, 17}, {2338, 4750, 16, 63}, {40 << 10, 20560, 16, 255}, {4 << 20, 65535, 16, 255}} {
		c, h, s := vhdGeometry(row.mib << 20 / Sector)
		if c != row.cylinders || h != row.heads || s != row.sectors {
			t.Errorf("%d MiB: %d/%d/%d; want %d/%d/%d", row.mib, c, h, s, row.cylinders, row.heads, row.sectors)
		}
	}
	if _, err := vhdFooter(mib+512, DeriveGUID("x"), age); err == nil || !strings.Contains(err.Error(), "whole number of MiB") {
		t.Errorf("an odd size: %v", err)
	}
}

func TestOVA(t *testing.T) {
	dir := t.TempDir()
	vmdk := filepath.Join(dir, "disk.vmdk")
	if err := os.WriteFile(vmdk, []byte("a disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	ova := OVA{Name: "kiln", Version: "v1.36.3-4f1c2ab0", VMDK: vmdk, Sum: "5u3", Capacity: 80 * mib, Epoch: age}
	sum, err := ova.Write(filepath.Join(dir, "disk.ova"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "disk.ova"))
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(file); sum != hex.EncodeToString(want[:]) {
		t.Errorf("Write says %s, the file has %x", sum, want)
	}
	archive, texts, names := tar.NewReader(bytes.NewReader(file)), map[string]string{}, ""
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names += header.Name + " "
		texts[header.Name] = string(readAll(t, archive))
	}
	if names != "kiln.ovf kiln.mf disk.vmdk " || texts["disk.vmdk"] != "a disk" {
		t.Errorf("it holds %sand as disk %q", names, texts["disk.vmdk"])
	}
	if want := fmt.Sprintf("SHA256(kiln.ovf)= %x\nSHA256(disk.vmdk)= 5u3\n", sha256.Sum256([]byte(texts["kiln.ovf"]))); texts["kiln.mf"] != want {
		t.Errorf("the digests are\n%s; want\n%s", texts["kiln.mf"], want)
	}
	for _, want := range []string{`ovf:href="disk.vmdk" ovf:size="6"`, `ovf:capacity="83886080"`, `vmw:key="firmware" vmw:value="efi"`, "<Version>v1.36.3-4f1c2ab0</Version>"} {
		if !strings.Contains(texts["kiln.ovf"], want) {
			t.Errorf("the description lacks %s", want)
		}
	}
}

// full is a target on a filesystem that takes no more than some bytes.
type full struct{ room int }

func (f *full) Write(data []byte) (int, error) {
	if f.room -= len(data); f.room < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(data), nil
}
func (f *full) Skip(int64) error       { return nil }
func (f *full) Close() (string, error) { return "", nil }

func TestWriteSaysWhatFailed(t *testing.T) {
	d := largeDisk(t, false)
	healthy, err := CreateZstd(filepath.Join(t.TempDir(), "disk.raw.zst"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(healthy, &full{room: 3 * mib}); err == nil || err.Error() != "no space left on device" {
		t.Errorf("error is %v", err)
	}
	// A file that cannot be written any more ends what is computed for it, too.
	for name, form := range forms(d) {
		target, err := form.create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		var file *os.File
		switch target := target.(type) {
		case *raw:
			file = target.file
		case vhd:
			file = target.file
		case *zstdCopy:
			file = target.file.file
		case *vmdk:
			file = target.file.file
		case *gce:
			file = target.file.file
		}
		file.Close()
		if _, err := d.Write(target); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestBudget(t *testing.T) {
	for _, row := range []struct {
		content, size int64
		want          string
	}{
		{80 * mib, 100 * mib, ""},
		{0, 100 * mib, ""},
		{80*mib + 1, 100 * mib, "partition root-a is 100MiB, and 80.0MiB of content would fill more than 80 % of it"},
		{101 * mib, 100 * mib, "partition root-a is 100MiB, its content needs 101MiB"},
	} {
		err := CheckBudget("root-a", row.content, row.size)
		if row.want == "" && err != nil || row.want != "" && (err == nil || err.Error() != row.want) {
			t.Errorf("%d of %d: error is %v; want %s", row.content, row.size, err, row.want)
		}
		if large, ok := errors.AsType[*TooLargeError](err); ok && CheckBudget("root-a", row.content, large.Least()) != nil {
			t.Errorf("%d of %d: the size that it wants is refused, too", row.content, row.size)
		}
	}
}
