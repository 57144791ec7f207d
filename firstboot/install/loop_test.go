package install

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// run runs a program and skips the test when it cannot do its part here.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	program := command.Find(name, "/usr/sbin/"+name, "/sbin/"+name)
	if program == "" {
		t.Skipf("there is no %s here", name)
	}
	out, err := command.Output(context.Background(), command.Exec{}, command.Command{Name: program, Args: args})
	if err != nil {
		t.Skipf("%s does not work here: %s", name, err)
	}
	return strings.TrimSpace(string(out))
}

// loopDevice is a block device with sectors of that size, over a file.
func loopDevice(t *testing.T, size int64, sector int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a block device needs root")
	}
	file := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	device := run(t, "losetup", "--find", "--show", "--partscan", "--sector-size", fmt.Sprint(sector), file)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device
}

// A block device of the kernel's: direct writes, its own view of the new table, and a state partition as a node leaves it.
func TestRealDevice(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			device := loopDevice(t, diskSize, sector)
			w := newWorld(t)
			onDevice := func() *Installer {
				i := w.installer()
				i.Open, i.HasJournal = Open, HasJournal("/")
				i.Disks = func() []disks.Disk { return []disks.Disk{{Path: device, Serial: "S1", Size: diskSize}} }
				return i
			}
			i := onDevice()
			if _, err := each(i.Looking(), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := each(i.Doing(), nil); err != nil {
				t.Fatal(err)
			}
			seen(t, device, 1, entry{offset: mib, size: 2 * mib})
			esp, err := partitionDevice(t.Context(), "/", device, 1)
			if err != nil {
				t.Fatal(err)
			}
			have, err := os.ReadFile(esp)
			if err != nil || !bytes.HasPrefix(have, noise("esp one", mib+512)) {
				t.Errorf("%s does not hold the ESP, %v", esp, err)
			}
			becomeNode(t, w, device, int64(sector))
			i = onDevice()
			names, err := each(i.Looking(), nil)
			if err != nil || i.what != doBoot || !strings.Contains(i.why, "it is the node's") {
				t.Errorf("after %v the node's disk is for %q, %q, %v", names, i.what, i.why, err)
			}
			// Whoever has a partition of it mounted keeps it.
			mounted := t.TempDir()
			state, err := partitionDevice(t.Context(), "/", device, 6)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount(state, mounted, "ext4", unix.MS_RDONLY, ""); err != nil {
				t.Skipf("mounting: %s", err)
			}
			defer func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) }()
			if _, err := Open(device, true); err == nil || !strings.Contains(err.Error(), "it is in use") {
				t.Errorf("a disk with a mounted partition: error is %v", err)
			}
		})
	}
}

// seen makes the kernel know a partition, if it cannot read such tables itself: some kernels of virtual machines cannot.
func seen(t *testing.T, device string, number int, e entry) {
	t.Helper()
	if files, _ := filepath.Glob("/sys/block/" + filepath.Base(device) + "/*/partition"); len(files) == 0 || number > 1 && len(files) == 1 {
		run(t, "addpart", device, fmt.Sprint(number), fmt.Sprint(e.offset/512), fmt.Sprint(e.size/512))
	}
}

// becomeNode adds a state partition with firstboot's journal to the disk, as the first boot does.
func becomeNode(t *testing.T, w *world, device string, sector int64) {
	t.Helper()
	tree := t.TempDir()
	journal := filepath.Join(tree, strings.TrimPrefix(nodefs.Journal, nodefs.State))
	if err := os.MkdirAll(filepath.Dir(journal), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	target, err := Open(device, true)
	if err != nil {
		t.Fatal(err)
	}
	w.disk.bytes, w.sector = make([]byte, diskSize), sector
	if _, err := io.ReadFull(io.NewSectionReader(target.Storage, 0, diskSize), w.disk.bytes); err != nil {
		t.Fatal(err)
	}
	w.addState()
	if err := put(target, piece{0, w.disk.bytes[:recordOffset]}); err != nil {
		t.Fatal(err)
	}
	if err := target.Changed(); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	seen(t, device, 6, entry{offset: w.manifest.Disk.End() + 4*mib, size: 4 * mib})
	state, err := partitionDevice(t.Context(), "/", device, 6)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", tree, state)
}
