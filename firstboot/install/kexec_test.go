package install

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/command"
)

// makePE is a PE file with sections and nothing else (Microsoft's PE format, sections 2 to 4).
func makePE(sections map[string]string) []byte {
	const headers, block = 1024, 512
	raw := make([]byte, headers)
	copy(raw, "MZ")
	binary.LittleEndian.PutUint32(raw[0x3c:], 64)
	copy(raw[64:], "PE\x00\x00\x64\x86")
	binary.LittleEndian.PutUint16(raw[70:], uint16(len(sections)))
	at := 88
	for _, name := range []string{".linux", ".initrd", ".cmdline"} {
		text, ok := sections[name]
		if !ok {
			continue
		}
		copy(raw[at:], name)
		padded := (len(text) + block - 1) / block * block
		binary.LittleEndian.PutUint32(raw[at+8:], uint32(len(text)))
		binary.LittleEndian.PutUint32(raw[at+16:], uint32(padded))
		binary.LittleEndian.PutUint32(raw[at+20:], uint32(len(raw)))
		raw = append(append(raw, text...), make([]byte, padded-len(text))...)
		at += 40
	}
	return raw
}

func TestReadUKI(t *testing.T) {
	whole := map[string]string{".linux": strings.Repeat("kernel", 200), ".initrd": "initramfs\x00\x00", ".cmdline": "roothash=00 quiet\n\x00"}
	path := filepath.Join(t.TempDir(), "kiln.efi")
	write := func(raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(makePE(whole))
	have, err := readUKI(path)
	if err != nil || string(have.kernel) != whole[".linux"] || string(have.initramfs) != whole[".initrd"] || have.commandLine != "roothash=00 quiet" {
		t.Errorf("have %q, %v", have, err)
	}
	write(makePE(map[string]string{".linux": "k", ".cmdline": "c"}))
	if _, err := readUKI(path); err == nil || !strings.Contains(err.Error(), "it has no section .initrd") {
		t.Errorf("error is %v", err)
	}
	for _, junk := range [][]byte{nil, []byte("<html>"), bytes.Repeat([]byte{0xff}, 4096)} {
		write(junk)
		if _, err := readUKI(path); err == nil {
			t.Errorf("%.10q was read", junk)
		}
	}
}

func TestFindUKI(t *testing.T) {
	esp := t.TempDir()
	if _, err := findUKI(esp); err == nil || !strings.Contains(err.Error(), "there is none in EFI/Linux") {
		t.Errorf("error is %v", err)
	}
	for _, name := range []string{"EFI/Linux/kiln-1.efi", "EFI/Linux/kiln-2.efi", "EFI/Linux/notes.txt", "EFI/BOOT/BOOTX64.EFI"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(esp, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(esp, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := findUKI(esp); err != nil || filepath.Base(have) != "kiln-2.efi" {
		t.Errorf("have %s, %v", have, err)
	}
}

// recorder keeps the commands.
type recorder struct{ ran []string }

func (r *recorder) Run(_ context.Context, c command.Command) (command.Usage, error) {
	r.ran = append(r.ran, c.Name+" "+strings.Join(c.Args, " "))
	return command.Usage{}, nil
}

func TestLeave(t *testing.T) {
	r := &recorder{}
	for _, how := range []string{BootKexec, BootReboot, BootPowerOff} {
		if err := (Kexec{Runner: r}).Leave(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"/usr/bin/systemctl --no-block kexec", "/usr/bin/systemctl --no-block reboot", "/usr/bin/systemctl --no-block poweroff"}
	if !slices.Equal(r.ran, want) {
		t.Errorf("ran %q", r.ran)
	}
}
