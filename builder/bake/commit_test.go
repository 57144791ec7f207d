package bake

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/plan"
)

// staged is a build whose files lie ready, in an output directory that holds an earlier image and a file of the user's.
func staged(t *testing.T, names ...string) *build {
	t.Helper()
	b := &build{Options: Options{Out: t.TempDir()}}
	previous, err := json.Marshal(Manifest{Files: []File{{Name: FileDisk}, {Name: FileSBOM}, {Name: "../outside"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{FileDisk: "old", FileSBOM: "old", FileSums: "old", FileCmdline: "old", FileManifest: string(previous), "notes.txt": "mine"} {
		put(t, filepath.Join(b.Out, name), text)
	}
	put(t, filepath.Join(b.Out, "..", "outside"), "mine")
	for _, name := range names {
		put(t, b.next(name), "new")
		if err := b.addFile(name, "00"); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// contents are the files of a directory, as in "disk.raw=old".
func contents(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err == nil && len(text) < 5 {
			list = append(list, entry.Name()+"="+string(text))
		} else {
			list = append(list, entry.Name())
		}
	}
	return strings.Join(list, " ")
}

func TestAnotherFormatTakesThePlace(t *testing.T) {
	b := staged(t, FileVMDK, FileOVA, FileSBOM)
	before := contents(t, b.Out)
	if !strings.Contains(before, "disk.raw=old") || strings.Contains(before, FileVMDK) {
		t.Errorf("before it is finished, the directory holds %s", before)
	}
	if err := b.finish(); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, b.Out), ".kiln-next SHA256SUMS cmdline=\n disk.ova=new disk.vmdk=new manifest.json notes.txt=mine sbom.cdx.json=new"; got != strings.ReplaceAll(want, "\\n", "\n") {
		t.Errorf("the directory holds\n%s; want\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(b.Out, "..", "outside")); err != nil {
		t.Errorf("a file outside of the directory is gone: %v", err)
	}
	m, err := ReadManifest(b.Out)
	if err != nil || !m.intact(b.Out) || len(m.Files) != 3 || m.Files[0].Name != FileVMDK {
		t.Errorf("the manifest names %+v, %v", m.Files, err)
	}
	sums, err := os.ReadFile(filepath.Join(b.Out, FileSums))
	if want := "00  disk.vmdk\n00  disk.ova\n00  sbom.cdx.json\n"; err != nil || string(sums) != want {
		t.Errorf("the checksums are\n%s, %v", sums, err)
	}
}

// What goes wrong before the first rename leaves the directory as it was.
func TestAFailedFinishLeavesTheDirectory(t *testing.T) {
	b := staged(t, FileVMDK)
	before := contents(t, b.Out)
	if err := os.Mkdir(b.next(FileSums), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.finish(); err == nil {
		t.Error("checksums that cannot be written are no error")
	}
	if after := contents(t, b.Out); after != before {
		t.Errorf("the directory holds\n%s; before\n%s", after, before)
	}
}

// What goes wrong, or is interrupted, while files are made leaves nothing but what was there.
func TestAFailedWriteLeavesTheDirectory(t *testing.T) {
	b := staged(t, FileVMDK) // what a killed build left
	before := strings.ReplaceAll(contents(t, b.Out), nextDir+" ", "")
	if _, err := b.writeOut(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the parts to write the error is %v", err)
	}
	b.unlock()
	if after := contents(t, b.Out); after != before {
		t.Errorf("the directory holds\n%s; before\n%s", after, before)
	}
	b.Out = filepath.Join(t.TempDir(), "new", "out")
	if _, err := b.writeOut(t.Context()); err == nil {
		t.Error("no error")
	}
	b.unlock()
	if _, err := os.Stat(b.Out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an output directory stays behind: %v", err)
	}
}

func TestDiskFile(t *testing.T) {
	var names []string
	for _, format := range plan.Formats() {
		name := (Manifest{Format: format}).Disk()
		if (plan.Image{Format: format}).Live() {
			if name != "" {
				t.Errorf("format %s is live and has the disk %q", format, name)
			}
			continue
		}
		if name == "" || slices.Contains(names, name) {
			t.Errorf("format %s has the disk %q; taken are %v", format, name, names)
		}
		names = append(names, name)
	}
	if got := (Manifest{}).Disk(); got != FileDisk {
		t.Errorf("the disk of an older manifest is %q", got)
	}
}

func TestAFullDirectoryIsSeenFirst(t *testing.T) {
	for _, row := range []struct {
		image plan.Image
		want  int64
	}{
		{plan.Image{Format: plan.FormatDisk}, 1},
		{plan.Image{Format: plan.FormatDisk, Copies: plan.Copies()}, 2},
		{plan.Image{Format: plan.FormatQCOW2}, 2},
		{plan.Image{Format: plan.FormatVMDK}, 2},
		{plan.Image{Format: plan.FormatGCE}, 1},
	} {
		if got := fileCount(row.image); got != row.want {
			t.Errorf("%s with %v: %d files; want %d", row.image.Format, row.image.Copies, got, row.want)
		}
	}
	if err := (&build{Options: Options{Plan: plan.Plan{Image: plan.Image{Format: "floppy"}}}, rootHash: strings.Repeat("0", 64)}).writeFormat(t.Context()); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a format without a writer: %v", err)
	}
}
