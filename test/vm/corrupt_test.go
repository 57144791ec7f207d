//go:build machine

package vm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// TestCorruptRoot flips one bit of the root, in a place that nothing but dm-verity looks at: the time in the squashfs
// superblock.
func TestCorruptRoot(t *testing.T) {
	w := newWorld(t)
	dir := w.place(t, "corrupt")
	disk := filepath.Join(w.image, bake.FileDisk)
	start := partitionStart(t, disk, nodefs.LabelRootA)
	sector := make([]byte, 512)
	file, err := os.Open(disk)
	must(t, err)
	defer file.Close()
	_, err = file.ReadAt(sector, start)
	must(t, err)
	if !bytes.HasPrefix(sector, []byte("hsqs")) {
		t.Fatalf("%s begins with %q, want a squashfs", nodefs.LabelRootA, sector[:4])
	}
	sector[8] ^= 1
	flipped, corrupt := filepath.Join(dir, "sector"), filepath.Join(dir, "corrupt.qcow2")
	must(t, os.WriteFile(flipped, sector, 0o644))
	w.run(t, w.qemu.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, corrupt))
	w.run(t, w.qemu.Command("qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -s %s %d 512", flipped, start), corrupt))

	m := w.boot(t, vm.Options{Dir: dir, Disk: corrupt, NoReboot: true})
	expect(t, m, "the finding", `verity: .*data block 0 is corrupted`, kernelTime)
	expect(t, m, "the refusal", `dm-verity device corrupted|THIS NODE DID NOT BOOT`, kernelTime)
	select {
	case <-m.Done(): // the machine restarts, which ends QEMU
	case <-time.After(kernelTime):
		t.Error("the machine neither restarts nor ends")
	}
	mustNotHaveSaid(t, m, "a corrupt root is booted", `systemd\[1\]`)
}

// partitionStart finds a partition by its name (UEFI specification, section 5.3.3) and gives its first byte.
func partitionStart(t *testing.T, disk, name string) int64 {
	t.Helper()
	file, err := os.Open(disk)
	must(t, err)
	defer file.Close()
	header := make([]byte, 512)
	_, err = file.ReadAt(header, 512)
	must(t, err)
	size := int64(binary.LittleEndian.Uint32(header[84:]))
	for i := range int64(binary.LittleEndian.Uint32(header[80:])) {
		entry := make([]byte, size)
		_, err := file.ReadAt(entry, int64(binary.LittleEndian.Uint64(header[72:]))*512+i*size)
		must(t, err)
		var letters []uint16
		for at := 56; at < 128; at += 2 {
			if letter := binary.LittleEndian.Uint16(entry[at:]); letter != 0 {
				letters = append(letters, letter)
			}
		}
		if string(utf16.Decode(letters)) == name {
			return int64(binary.LittleEndian.Uint64(entry[32:])) * 512
		}
	}
	t.Fatalf("%s has no partition %s", disk, name)
	return 0
}
