package initramfs

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRootUUIDs(t *testing.T) {
	hash, err := hex.DecodeString("5fd5a27b3e5a4d6cbe66f8ac1b2f0e0d" + "00112233445566778899aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	data, tree, err := rootUUIDs(hash)
	if err != nil || data != "5fd5a27b-3e5a-4d6c-be66-f8ac1b2f0e0d" || tree != "00112233-4455-6677-8899-aabbccddeeff" {
		t.Errorf("got %s and %s, %v", data, tree, err)
	}
	if _, _, err := rootUUIDs(hash[:16]); err == nil {
		t.Error("half a hash was accepted")
	}
}

func TestParseUevent(t *testing.T) {
	got := parseUevent("MAJOR=254\nMINOR=2\nDEVNAME=vda2\nDEVTYPE=partition\nPARTN=2\nPARTNAME=a=b\n")
	if got["DEVNAME"] != "vda2" || got["PARTN"] != "2" || got["PARTNAME"] != "a=b" {
		t.Errorf("got %v", got)
	}
}

// testMachine lays out a /sys and a /dev with disks; partitions of a disk get devices unless the disk is called "late".
func testMachine(t *testing.T, disks map[string][]byte) blockDevices {
	t.Helper()
	b := blockDevices{sys: t.TempDir(), dev: t.TempDir()}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range disks {
		dir := filepath.Join(b.sys, "block", name)
		write(filepath.Join(b.dev, name), string(content))
		write(filepath.Join(dir, "size"), fmt.Sprintf("%d\n", len(content)/512))
		write(filepath.Join(dir, "queue/logical_block_size"), "512\n")
		for _, number := range []int{1, 2, 3} {
			if name == "late" {
				continue
			}
			part := fmt.Sprintf("%sp%d", name, number)
			write(filepath.Join(dir, part, "partition"), fmt.Sprintf("%d\n", number))
			write(filepath.Join(dir, part, "uevent"), fmt.Sprintf("DEVNAME=%s\nPARTN=%d\n", part, number))
		}
	}
	return b
}

func TestFindRoot(t *testing.T) {
	disk := testDisk(8, twoPartitions()...)
	hash, _ := hex.DecodeString("00112233445566778899aabbccddeeff" + "ffeeddccbbaa99887766554433221100")
	b := testMachine(t, map[string][]byte{"nvme0n1": disk, "sdz": disk, "late": disk, "sr0": disk, "blank": make([]byte, 1<<20), "gone": nil})

	disks := b.list()
	var names []string
	for _, d := range disks {
		names = append(names, d.name)
	}
	if got := strings.Join(names, " "); got != "blank late nvme0n1 sdz" {
		t.Fatalf("disks are %s", got)
	}
	found, ok := findRoot(disks, hash)
	if !ok || found.dataPath() != filepath.Join(b.dev, "nvme0n1p1") || found.treePath() != filepath.Join(b.dev, "nvme0n1p3") {
		t.Errorf("found %v: %s, %s", ok, found.dataPath(), found.treePath())
	}
	if len(found.others) != 1 || filepath.Base(found.others[0]) != "sdz" {
		t.Errorf("others are %v", found.others)
	}
	hash[31] ^= 1 // The data of one image, the hash tree of another.
	if _, ok := findRoot(disks, hash); ok {
		t.Error("found a root without its hash tree")
	}
	text := strings.Join(disks[2].describe(), "\n")
	for _, want := range []string{"8MiB, 4MiB not used", `nvme0n1p1 "root-a" PARTUUID=00112233-4455-6677-8899-aabbccddeeff, 1MiB`} {
		if !strings.Contains(text, want) {
			t.Errorf("description lacks %q:\n%s", want, text)
		}
	}
	if text := disks[0].describe()[0]; !strings.Contains(text, "no GUID partition table") {
		t.Errorf("a blank disk is described as %s", text)
	}
}
