package initramfs

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/go-dmverity/pkg/verity"

	"github.com/kiln-os/kiln/firstboot/disks"
)

func TestMemory(t *testing.T) {
	const MiB = 1 << 20
	have, err := availableMemory("MemTotal:        4030184 kB\nMemFree:         3500000 kB\nMemAvailable:    1048576 kB\n")
	if err != nil || have != 1024*MiB {
		t.Errorf("have %d, %v", have, err)
	}
	if _, err := availableMemory("MemTotal: 1 kB\n"); err == nil {
		t.Error("no MemAvailable is no error")
	}
	for _, tt := range []struct {
		root, have int64
		inMemory   bool
		want, hint string
	}{
		{root: 300 * MiB, have: 1324 * MiB, inMemory: true},
		{root: 300 * MiB, have: 812 * MiB},
		{root: 300 * MiB, have: 1000 * MiB, inMemory: true, hint: "kiln.state=RULE",
			want: "the root does not fit into memory: 1324MiB are needed (300MiB for the root and 512MiB to work in, and 512MiB for /var), 1000MiB are free"},
		{root: 300 * MiB, have: 811 * MiB, hint: "more memory", want: "812MiB are needed (300MiB for the root and 512MiB to work in), 811MiB are free"},
	} {
		err := enoughMemory(tt.root, tt.have, tt.inMemory)
		if tt.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		h, ok := errors.AsType[hinted](err)
		if !ok || !strings.Contains(err.Error(), tt.want) || !strings.Contains(h.hint, tt.hint) {
			t.Errorf("have %v; want %s", err, tt.want)
		}
	}
}

func TestFilesystemOf(t *testing.T) {
	at := func(offset int, text string) string {
		return strings.Repeat("\x00", offset) + text + strings.Repeat("\x00", 100)
	}
	for text, want := range map[string]string{
		at(32769, "CD001"): "iso9660", at(1080, "\x53\xef"): "ext4", at(82, "FAT32   "): "vfat", at(54, "FAT16   "): "vfat", at(3, "NTFS"): "", "": "",
	} {
		if have := filesystemOf(strings.NewReader(text)); have != want {
			t.Errorf("%q: have %q", want, have)
		}
	}
}

// liveSet makes root.img and root.verity below dir, and returns the root hash.
func liveSet(t *testing.T, dir string) []byte {
	t.Helper()
	root, tree := filepath.Join(dir, "root.img"), filepath.Join(dir, "root.verity")
	if err := errors.Join(os.WriteFile(root, []byte(strings.Repeat("hello! \n", 512*3)), 0o600), os.WriteFile(tree, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	params := verity.Params{HashName: "sha256", HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096, DataBlocks: 3, HashAreaOffset: 4096, UUID: [16]byte{1}}
	hash, err := verity.Create(&params, root, tree)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestCheckMedium(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"ours":              {func(string) error { return nil }, ""},
		"nothing":           {func(dir string) error { return os.Remove(dir + "/root.verity") }, "has no /kiln/root.verity"},
		"no root":           {func(dir string) error { return os.Remove(dir + "/root.img") }, "has no /kiln/root.img"},
		"a root cut off":    {func(dir string) error { return os.Truncate(dir+"/root.img", 8192) }, "its root.img has 8192 bytes; want 12288: it was cut off"},
		"of another image":  {func(dir string) error { return os.WriteFile(dir+"/root.verity", nil, 0o600) }, "superblock"},
		"a tree cut in two": {func(dir string) error { return os.Truncate(dir+"/root.verity", 6000) }, "reading level 0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hash := liveSet(t, dir)
			if err := tt.change(dir); err != nil {
				t.Fatal(err)
			}
			err := checkMedium(dir, hash)
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("have %v; want %s", err, tt.want)
			}
		})
	}
	dir := t.TempDir()
	liveSet(t, dir)
	if err := checkMedium(dir, make([]byte, 32)); err == nil || !strings.Contains(err.Error(), "does not match the root hash") {
		t.Errorf("another root hash: have %v", err)
	}
}

func TestMediumReport(t *testing.T) {
	have := mediumReport(time.Minute, map[string]string{"/dev/sr0": "is iso9660: has no /kiln/root.verity", "/dev/sda": "is no iso9660, FAT or ext4"})
	want := "no medium with /kiln/root.img of this image after 1m0s; looked at:\n  /dev/sda is no iso9660, FAT or ext4\n  /dev/sr0 is iso9660: has no /kiln/root.verity"
	if have != want {
		t.Errorf("have %s", have)
	}
	if have := mediumReport(time.Minute, nil); !strings.Contains(have, "nothing: the machine shows no disk and no CD drive") {
		t.Errorf("have %s", have)
	}
}

func TestIsBlank(t *testing.T) {
	const size = 8 << 20
	for offset, want := range map[int64]bool{-1: true, 0: false, 510: false, 1<<20 - 1: false, 4 << 20: true, size - 1<<20: false, size - 1: false} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = file.Truncate(size)
		if offset >= 0 {
			_, writeErr := file.WriteAt([]byte{1}, offset)
			err = errors.Join(err, writeErr)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		if have, err := isBlank(path, size); err != nil || have != want {
			t.Errorf("a byte at %d: have %v, %v", offset, have, err)
		}
	}
}

func TestWriteResolver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	if err := writeResolver(dir, []netip.Addr{a, a, b}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "/resolv.conf")
	if err != nil || string(text) != "nameserver 192.0.2.1\nnameserver 2001:db8::1\n" {
		t.Errorf("have %q, %v", text, err)
	}
}

func TestLimitJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journald.conf.d")
	if err := limitJournal(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "/50-kiln-live.conf")
	if err != nil || !strings.Contains(string(text), "\n[Journal]\nSystemMaxUse=64M\n") {
		t.Errorf("have %q, %v", text, err)
	}
}

// machineWith is a machine with one disk, of 64 MiB, and what is on it at the beginning.
func machineWith(t *testing.T, content string) *boot {
	t.Helper()
	root := t.TempDir()
	const size = 64 << 20
	for file, text := range map[string]string{"sys/block/vdb/size": "131072\n", "sys/block/vdb/queue/logical_block_size": "512\n", "dev/vdb": content} {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(root+"/dev/vdb", size); err != nil {
		t.Fatal(err)
	}
	return &boot{sys: root + "/sys", devices: blockDevices{sys: root + "/sys", dev: root + "/dev"}, stateDisk: "vdb", facts: Boot{Live: &Live{}}}
}

func TestStateOnABlankDisk(t *testing.T) {
	b := machineWith(t, "")
	if _, err := b.rereadDisk(); err == nil {
		t.Error("a disk without a table is no error")
	}
	b.blankState = true
	d, err := b.rereadDisk()
	if err != nil {
		t.Fatal(err)
	}
	if room := d.table.unused(); room < 60<<20 || room > 64<<20 {
		t.Errorf("room for %d bytes", room)
	}
	if _, found := d.labelled("kiln-state"); found {
		t.Error("an empty disk has a state partition")
	}
}

func TestStateNeverOverwrites(t *testing.T) {
	b := machineWith(t, strings.Repeat("somebody's data ", 100))
	err := b.checkStateDisk(disks.List(b.sys, b.devices.dev)[0])
	h, ok := errors.AsType[hinted](err)
	if !ok || !strings.Contains(err.Error(), "size:64MiB, holds something that is no GUID partition table") || !strings.Contains(h.hint, "wipefs --all") || b.blankState {
		t.Errorf("have %v", err)
	}
}

func TestAwaitDisk(t *testing.T) {
	rule := func(text string) disks.Rule {
		r, err := disks.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	b := machineWith(t, "")
	b.coldplug = &coldplug{sys: b.sys, modules: &modules{}, seen: map[string]bool{}}
	if chosen, err := b.awaitDisk(rule("size:64MiB")); err != nil || filepath.Base(chosen.Path) != "vdb" {
		t.Errorf("have %s, %v", chosen, err)
	}
	if chosen, err := b.awaitDisk(rule("serial:X")); err == nil || !strings.Contains(err.Error(), "no disk fits the rule serial:X") {
		t.Errorf("have %s, %v", chosen, err)
	}
	// The medium that the root is on is no disk for the state.
	b.facts.Live.Device = b.devices.dev + "/vdb1"
	if chosen, err := b.awaitDisk(rule("size:64MiB")); err == nil || !strings.Contains(err.Error(), "no disk at all") {
		t.Errorf("have %s, %v", chosen, err)
	}
}
