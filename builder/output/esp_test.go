package output

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// recorder notes what is run and does nothing.
type recorder struct{ commands []command.Command }

// Run implements command.Runner.
func (r *recorder) Run(_ context.Context, c command.Command) (command.Usage, error) {
	r.commands = append(r.commands, c)
	return command.Usage{}, nil
}

func TestESP(t *testing.T) {
	r := &recorder{}
	loader, uki := sparse(t, 1000, nil), sparse(t, 10*mib, nil)
	esp := ESP{Run: r, Tools: rootfs.Tools{Dir: "/tools"}, Size: 64 * mib, Epoch: time.Unix(1789430400, 0), Serial: 0xabc,
		Files: map[string]string{"EFI/Linux/kiln.efi": uki, "EFI/BOOT/BOOTX64.EFI": loader}}
	out := filepath.Join(t.TempDir(), "esp.img")
	if err := esp.Write(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range r.commands {
		// Every program runs under its own name, by the tools' loader; what comes after that are its arguments.
		name := c.Args[slices.Index(c.Args, "--argv0")+1]
		lines = append(lines, name+" "+strings.Join(c.Args[slices.Index(c.Args, "--argv0")+3:], " "))
		for _, want := range []string{"SOURCE_DATE_EPOCH=1789430400", "TZ=UTC"} {
			if !slices.Contains(c.Env, want) {
				t.Errorf("%s runs without %s", name, want)
			}
		}
	}
	// mcopy -m would keep the time at which the host's file was made: other bytes in every build.
	want := strings.NewReplacer("OUT", out, "LOADER", loader, "UKI", uki).Replace(`mkfs.fat -F 32 -n ESP -i 00000abc -S 512 -s 1 --invariant OUT
mmd -i OUT ::/EFI
mmd -i OUT ::/EFI/BOOT
mmd -i OUT ::/EFI/Linux
mcopy -i OUT LOADER ::/EFI/BOOT/BOOTX64.EFI
mcopy -i OUT UKI ::/EFI/Linux/kiln.efi`)
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("ran\n%s\nwant\n%s", got, want)
	}
}

func TestESPTooSmall(t *testing.T) {
	r := &recorder{}
	out := filepath.Join(t.TempDir(), "esp.img")
	esp := ESP{Run: r, Size: 64 * mib, Files: map[string]string{"kiln.efi": sparse(t, 63*mib, nil)}}
	err := esp.Write(t.Context(), out)
	large, ok := errors.AsType[*TooLargeError](err)
	if !ok || large.Partition != "esp" || large.Have != 64*mib || large.Need <= 64*mib || large.Need > 66*mib {
		t.Errorf("error is %v", err)
	}
	if len(r.commands) > 0 {
		t.Errorf("ran %v", r.commands)
	}
}

// The least size holds the files, and is FAT32 to everybody however few they are.
func TestESPLeast(t *testing.T) {
	for size, want := range map[int64]int64{1: 34 * mib, 20 * mib: 34 * mib, 40 * mib: 52 * mib} {
		esp := ESP{Files: map[string]string{"kiln.efi": sparse(t, size, nil)}}
		least, err := esp.Least()
		if err != nil {
			t.Fatal(err)
		}
		if least < want || least > want+2*mib || least%mib != 0 {
			t.Errorf("%d bytes need %d; want about %d", size, least, want)
		}
		esp.Size = least
		if err := esp.fits(); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := (ESP{Files: map[string]string{"a": "/no/such/file"}}).Least(); err == nil {
		t.Error("a file that is not there has a size")
	}
}
