package install

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/nodefs"
)

func espEntry(id string) entry {
	return entry{number: 1, kind: typeESP, id: id, offset: mib, size: 2 * mib}
}

const espID = "00112233-4455-6677-8899-aabbccddeeff"

// The option of the UEFI specification, byte by byte, as efibootmgr -v takes it apart.
func TestLoadOption(t *testing.T) {
	have, err := loadOption("kiln", espEntry(espID), 512)
	if err != nil {
		t.Fatal(err)
	}
	want := "01000000" + "6200" + // active; 42 + 4 + 44 + 4 + 4 bytes of path
		"6b0069006c006e000000" + // "kiln"
		"04012a00" + "01000000" + "0008000000000000" + "0010000000000000" + "33221100554477668899aabbccddeeff" + "0202" +
		"04043000" + hex.EncodeToString(utf16Text(`\EFI\BOOT\BOOTX64.EFI`)) + "7fff0400"
	// 22 characters of two bytes and the node's own head.
	want = strings.Replace(want, "6200", hex.EncodeToString([]byte{byte(42 + 4 + 44 + 4), 0}), 1)
	if hex.EncodeToString(have) != want {
		t.Errorf("have %x\nwant %s", have, want)
	}
}

func TestPreferDisk(t *testing.T) {
	option := func(name, id string) []byte {
		o, err := loadOption(name, espEntry(id), 512)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	own := option("kiln", espID)
	for _, row := range []struct {
		name   string
		before firmware
		entry  string
		order  string
	}{
		{"nothing there", firmware{"SecureBoot": {1}}, "Boot0000", "0000"},
		{"the network first", firmware{"Boot0000": option("PXE", espID), "Boot0001": option("disk", espID), "BootOrder": {0, 0, 1, 0}}, "Boot0002", "020000000100"},
		{"a gap", firmware{"Boot0000": {1}, "Boot0002": {1}, "BootOrder": {0, 0, 2, 0}}, "Boot0001", "010000000200"},
		{"as it should be", firmware{"Boot0003": own, "BootOrder": {3, 0, 1, 0}}, "Boot0003", "03000100"},
		{"not the first", firmware{"Boot0003": own, "BootOrder": {1, 0, 3, 0, 2, 0}}, "Boot0003", "030001000200"},
		{"of another installation", firmware{"Boot0003": option("kiln", "99999999-4455-6677-8899-aabbccddeeff"), "BootOrder": {1, 0, 3, 0}}, "Boot0003", "03000100"},
		{"a name that only begins so", firmware{"Boot0003": option("kilnx", espID), "BootOrder": {3, 0}}, "Boot0000", "00000300"},
		{"torn variables", firmware{"Boot0000": {1, 2}, "Boot000": own, "BootOrder": {1}}, "Boot0001", "0100"},
	} {
		t.Run(row.name, func(t *testing.T) {
			name, err := preferDisk(row.before, espEntry(espID), 512)
			if err != nil || name != row.entry {
				t.Fatalf("the entry is %s, %v; want %s", name, err, row.entry)
			}
			if !bytes.Equal(row.before[name], own) {
				t.Errorf("the entry holds %x", row.before[name])
			}
			if have := hex.EncodeToString(row.before["BootOrder"]); have != row.order {
				t.Errorf("the order is %s; want %s", have, row.order)
			}
			if next := row.before["BootNext"]; len(next) != 2 || !strings.HasPrefix(row.order, hex.EncodeToString(next)) {
				t.Errorf("the next one is %x", next)
			}
		})
	}
}

func TestNoFirmware(t *testing.T) {
	if _, err := preferDisk(firmware(nil), espEntry(espID), 512); !errors.Is(err, ErrNoFirmware) {
		t.Errorf("error is %v", err)
	}
	if _, err := preferDisk(Variables{Root: nodefs.Root(t.TempDir())}, espEntry(espID), 512); !errors.Is(err, ErrNoFirmware) {
		t.Errorf("error is %v", err)
	}
}

// The kernel's files, as far as plain ones can stand for them.
func TestVariables(t *testing.T) {
	v := Variables{Root: nodefs.Root(t.TempDir())}
	if err := os.MkdirAll(v.directory(), 0o755); err != nil {
		t.Fatal(err)
	}
	order := filepath.Join(v.directory(), "BootOrder-"+globalVariables)
	for path, text := range map[string]string{order: "\x07\x00\x00\x00\x05\x00", filepath.Join(v.directory(), "Other-12345678-0000-0000-0000-000000000000"): "x"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	name, err := preferDisk(v, espEntry(espID), 512)
	if err != nil || name != "Boot0000" {
		t.Fatalf("the entry is %s, %v", name, err)
	}
	names, err := v.List()
	if err != nil || len(names) != 3 {
		t.Errorf("the variables are %v, %v", names, err)
	}
	if text, err := os.ReadFile(order); err != nil || string(text) != "\x07\x00\x00\x00\x00\x00\x05\x00" {
		t.Errorf("the order's file is %x, %v", text, err)
	}
	if text, err := v.Read("Boot0000"); err != nil || !bytes.Contains(text, utf16Text("kiln")) {
		t.Errorf("the entry is %x, %v", text, err)
	}
}
