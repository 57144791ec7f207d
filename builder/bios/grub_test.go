package bios

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// recorder notes the commands that it is given.
type recorder struct{ commands []command.Command }

// Run implements command.Runner.
func (r *recorder) Run(_ context.Context, c command.Command) (command.Usage, error) {
	r.commands = append(r.commands, c)
	return command.Usage{}, nil
}

func TestCoreImages(t *testing.T) {
	r := &recorder{}
	g := GRUB{Run: r, Tools: rootfs.Tools{Dir: "/tools"}}
	must(t, g.Disk(t.Context(), 2, "/out/core.img"))
	must(t, g.ISO(t.Context(), "/out/eltorito.img"))
	var lines []string
	for _, c := range r.commands {
		args := c.Args[slices.Index(c.Args, "--argv0")+1:]
		lines = append(lines, strings.Join(append(args[:1:1], args[2:]...), " "))
	}
	want := `grub-mkimage -O i386-pc -d /tools/usr/lib/grub/i386-pc -p (,gpt2)/grub -o /out/core.img part_gpt fat biosdisk normal linux serial terminal echo sleep reboot
grub-mkimage -O i386-pc-eltorito -d /tools/usr/lib/grub/i386-pc -p /boot/grub -o /out/eltorito.img iso9660 biosdisk normal linux serial terminal echo sleep reboot`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("ran\n%s\nwant\n%s", got, want)
	}
}

// bootSector is laid out as GRUB's: a jump at the drive check, and bytes to recognise.
func bootSector() []byte {
	boot := bytes.Repeat([]byte{0x55}, sector)
	boot[bootDriveCheck], boot[bootDriveCheck+1] = 0xeb, 0x05
	return boot
}

func TestBootCode(t *testing.T) {
	tools := rootfs.Tools{Dir: t.TempDir()}
	g := GRUB{Tools: tools}
	must(t, os.MkdirAll(tools.Path("usr/lib/grub/i386-pc"), 0o755))
	place := tools.Path("usr/lib/grub/i386-pc/boot.img")
	must(t, os.WriteFile(place, bootSector(), 0o644))
	code, err := g.BootCode(0x123456789a)
	must(t, err)
	want := bootSector()[:440]
	copy(want[0x5c:], []byte{0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0, 0})
	copy(want[0x66:], []byte{0x90, 0x90})
	if !bytes.Equal(code, want) {
		t.Errorf("boot code is\n%x\nwant\n%x", code, want)
	}
	for name, content := range map[string][]byte{"short": bootSector()[:100], "of another GRUB": bytes.Repeat([]byte{0x90}, sector)} {
		must(t, os.WriteFile(place, content, 0o644))
		if _, err := g.BootCode(2048); err == nil {
			t.Errorf("a boot sector that is %s was taken", name)
		}
	}
	must(t, os.Remove(place))
	if _, err := g.BootCode(2048); err == nil || !strings.Contains(err.Error(), filepath.Base(place)) {
		t.Errorf("without a boot sector: %v", err)
	}
}

func TestPlace(t *testing.T) {
	core := func(size, sectors int) []byte {
		image := make([]byte, size)
		binary.LittleEndian.PutUint64(image[sector-12:], 1)
		binary.LittleEndian.PutUint16(image[sector-4:], uint16(sectors))
		binary.LittleEndian.PutUint16(image[sector-2:], coreSegment)
		return image
	}
	for _, row := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"whole sectors", core(3*sector, 2), ""},
		{"part of a sector", core(2*sector+1, 2), ""},
		{"a list that is too short", core(4*sector, 2), "block list has 2 sectors, it has 3"},
		{"no list", make([]byte, 4*sector), "does not begin with a block list"},
		{"one sector", core(sector, 0), "does not begin with a block list"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := Place(row.image, 2048)
			if row.want != "" {
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("error is %v, want %q", err, row.want)
				}
				return
			}
			must(t, err)
			if at := binary.LittleEndian.Uint64(row.image[sector-12:]); at != 2049 {
				t.Errorf("the rest is looked for at %d, want 2049", at)
			}
		})
	}
}

func TestMenu(t *testing.T) {
	got := Menu([]Entry{
		{Title: "kiln 2", Kernel: "/kiln/2/vmlinuz", Initramfs: "/kiln/2/initramfs", CommandLine: "roothash=ab a;b $c it's console=tty0 console=ttyS0,57600n8"},
		{Title: "kiln 1", Kernel: "/kiln/1/vmlinuz", Initramfs: "/kiln/1/initramfs", CommandLine: "quiet"},
	})
	want := `# Written by kiln. Updates replace this file whole.
set superusers=nobody
export superusers
set default=0
set timeout=0
set gfxpayload=text
if serial --unit=0 --speed=57600; then
  terminal_input console serial
  terminal_output console serial
fi
set fallback='1 2'
menuentry 'kiln 2' --unrestricted {
  echo 'Starting kiln 2 ...'
  linux /kiln/2/vmlinuz 'roothash=ab' 'a;b' '$c' 'it'\''s' 'console=tty0' 'console=ttyS0,57600n8'
  initrd /kiln/2/initramfs
}
menuentry 'kiln 1' --unrestricted {
  echo 'Starting kiln 1 ...'
  linux /kiln/1/vmlinuz 'quiet'
  initrd /kiln/1/initramfs
}
menuentry 'Start the machine again' --unrestricted {
  echo 'Nothing could be started; starting again in a minute.'
  sleep 60
  reboot
}
`
	if got != want {
		t.Errorf("menu is\n%s\nwant\n%s", got, want)
	}
}

func TestSerialSpeed(t *testing.T) {
	for line, want := range map[string]string{
		"console=ttyS0": "9600", "console=ttyS0,115200": "115200", "console=ttyS0,38400n8r": "38400", "console=ttyS0,7": "9600",
		"console=ttyS1,9600": "", "console=ttyS01": "", "quiet": "", "": "",
	} {
		if got := serialSpeed([]Entry{{CommandLine: line}}); got != want {
			t.Errorf("%q has speed %q, want %q", line, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
