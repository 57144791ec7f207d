package iso

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// writer stands for xorriso: it writes text to where the image shall be.
type writer struct {
	command command.Command
	text    string
}

// Run implements command.Runner.
func (w *writer) Run(_ context.Context, c command.Command) (command.Usage, error) {
	w.command = c
	return command.Usage{}, os.WriteFile(c.Args[slices.Index(c.Args, "-o")+1], []byte(w.text), 0o644)
}

func TestWrite(t *testing.T) {
	w := &writer{text: "abc"}
	out := filepath.Join(t.TempDir(), "x.iso")
	if err := os.WriteFile(out, []byte("an older image"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := Image{
		Run: w, Tools: rootfs.Tools{Dir: "/tools"}, Volume: "KILN_1", Epoch: time.Unix(1789430400, 0), DiskID: "0f0e", BIOSImage: "boot/grub/eltorito.img",
		HybridMBR: "/mbr", EFIImage: "/efi.img", Files: map[string]string{"kiln/root.img": "/a=b/root", "boot/grub/eltorito.img": "/core"},
	}.Write(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	if sum != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" { // of "abc" (FIPS 180-4)
		t.Errorf("digest is %s", sum)
	}
	args := strings.Join(w.command.Args, " ")
	for _, want := range []string{
		// Without level 3 a file of 4 GiB would be refused or cut off.
		"-iso-level 3", "-r", "-V KILN_1", "--modification-date=2026091500000000", "--set_all_file_dates 2026091500000000", "--gpt_disk_guid 0f0e",
		"--grub2-mbr /mbr", "-append_partition 2 C12A7328-F81F-11D2-BA4B-00A0C93EC93B /efi.img -appended_part_as_gpt",
		"-b boot/grub/eltorito.img -no-emul-boot -boot-load-size 4 -boot-info-table --grub2-boot-info", "-e --interval:appended_partition_2:all:: -no-emul-boot",
		`-graft-points boot/grub/eltorito.img=/core kiln/root.img=/a\=b/root`,
	} {
		if !strings.Contains(args, want) {
			t.Errorf("xorriso is not told %q:\n%s", want, args)
		}
	}
	if !slices.Contains(w.command.Env, "SOURCE_DATE_EPOCH=1789430400") {
		t.Error("xorriso would take times from the clock")
	}
}

func TestVolume(t *testing.T) {
	for name, want := range map[string]string{
		"kiln v1.36.3-4f1c": "KILN_V1_36_3_4F1C", "": "", "ü": "_", strings.Repeat("a", 40): strings.Repeat("A", 32),
	} {
		if got := Volume(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}
