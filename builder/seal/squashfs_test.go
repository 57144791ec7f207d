package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// squashfs is a file whose superblock says that it has used bytes; they are all letter, and tail zeros follow.
func squashfs(t *testing.T, letter string, used, tail int) string {
	t.Helper()
	text := []byte(strings.Repeat(letter, used) + strings.Repeat("\x00", tail))
	copy(text, "hsqs")
	binary.LittleEndian.PutUint64(text[40:], uint64(used))
	path := filepath.Join(t.TempDir(), letter)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestJoin(t *testing.T) {
	const used = 5000
	system, payload := squashfs(t, "s", used, 4096-used%4096), squashfs(t, "p", 100, 3996)
	out := filepath.Join(t.TempDir(), "root.img")
	if err := Join(out, system, payload); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if want := PayloadAlign + VerityBlock; len(got) != want {
		t.Fatalf("the root has %d bytes; want %d", len(got), want)
	}
	first, err := os.ReadFile(system)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(payload)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:used], first[:used]) || !bytes.Equal(got[PayloadAlign:][:100], second[:100]) {
		t.Error("the filesystems are not where they belong")
	}
	for _, gap := range [][]byte{got[used:PayloadAlign], got[PayloadAlign+100:]} {
		if !bytes.Equal(gap, make([]byte, len(gap))) {
			t.Error("there is something besides zeros behind a filesystem")
		}
	}
	// firstboot finds the payload from the system's superblock alone.
	if size, err := BytesUsed(out); err != nil || size != used {
		t.Errorf("the root's superblock says %d, %v", size, err)
	}
}

func TestJoinRefusesWhatIsNoSquashfs(t *testing.T) {
	good, short := squashfs(t, "s", 5000, 0), squashfs(t, "t", 5000, 0)
	if err := os.Truncate(short, 4000); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("x"), 100), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ system, payload, want string }{
		{text, good, text + " is not a squashfs"},
		{good, text, text + " is not a squashfs"},
		{short, good, short + " is shorter than its superblock says"},
		{good, short, short + " is shorter than its superblock says"},
	} {
		err := Join(filepath.Join(t.TempDir(), "out"), row.system, row.payload)
		if err == nil || err.Error() != row.want {
			t.Errorf("error is %v; want %s", err, row.want)
		}
	}
}

// runner plays mksquashfs.
type runner func(c command.Command) error

// Run implements command.Runner.
func (r runner) Run(_ context.Context, c command.Command) (command.Usage, error) {
	return command.Usage{}, r(c)
}

func TestPackTar(t *testing.T) {
	broken, refused := errors.New("no more paper"), errors.New("mksquashfs ended with exit code 1")
	whole := func(w io.Writer) error { _, err := io.WriteString(w, "a tar"); return err }
	for _, row := range []struct {
		summary string
		write   func(io.Writer) error
		run     runner
		want    []error
	}{
		{"all is well", whole, func(c command.Command) error {
			text, err := io.ReadAll(c.Stdin)
			if string(text) != "a tar" {
				t.Errorf("mksquashfs reads %q, %v", text, err)
			}
			return err
		}, nil},
		{"the writer fails", func(w io.Writer) error { return broken }, func(c command.Command) error {
			if _, err := io.ReadAll(c.Stdin); !errors.Is(err, broken) {
				t.Errorf("mksquashfs reads a whole tar: %v", err)
			}
			return refused
		}, []error{broken, refused}},
		// It must not hang on a pipe that nobody reads.
		{"mksquashfs ends at once", func(w io.Writer) error {
			_, err := w.Write(make([]byte, 1<<20))
			return err
		}, func(command.Command) error { return refused }, []error{refused}},
	} {
		t.Run(row.summary, func(t *testing.T) {
			err := Squashfs{Run: row.run, Tools: rootfs.Tools{Dir: t.TempDir()}, Level: 3}.PackTar(t.Context(), "out", row.write)
			if len(row.want) == 0 && err != nil {
				t.Errorf("error is %v", err)
			}
			for _, want := range row.want {
				if !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "packing out: ") {
					t.Errorf("error is %v; want %v", err, want)
				}
			}
		})
	}
}
