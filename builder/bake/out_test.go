package bake

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/output"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCheckOut(t *testing.T) {
	dir := t.TempDir()
	file, locked := filepath.Join(dir, "file"), filepath.Join(dir, "locked")
	put(t, file, "")
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	rows := []struct{ dir, want string }{
		{dir, ""},
		{filepath.Join(dir, "new"), ""},
		{filepath.Join(dir, "new", "and", "deeper"), ""},
		{file, file + ": is a file, and the results want a directory; remove it, or name another directory with -o"},
		{filepath.Join(file, "below"), file + ": is a file, and the results want a directory; remove it, or name another directory with -o"},
	}
	if os.Geteuid() != 0 { // root may write anywhere
		rows = append(rows, struct{ dir, want string }{filepath.Join(locked, "out"),
			locked + ": cannot be written (permission denied), and " + filepath.Join(locked, "out") + " is to hold the results; change that, or name another directory with -o"})
	}
	for _, row := range rows {
		err := checkOut(row.dir)
		if row.want == "" && err != nil || row.want != "" && (err == nil || err.Error() != row.want) {
			t.Errorf("%s: error is %v; want %s", row.dir, err, row.want)
		}
		if _, ok := errors.AsType[*parts.PlaceError](err); ok != (row.want != "") {
			t.Errorf("%s: error is a %T", row.dir, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking made the directory: %v", err)
	}
}

func TestOutError(t *testing.T) {
	b := &build{Options: Options{Out: "out"}}
	other := errors.New("something else")
	for _, row := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "write", Path: "out/x", Err: syscall.ENOSPC}, "out: no space left while writing the image; free some, or name another directory with -o"},
		{&os.PathError{Op: "open", Path: "out/x", Err: syscall.EROFS}, "out/x: cannot be written (read-only file system), and out is to hold the results; change that, or name another directory with -o"},
		{other, "something else"},
	} {
		if err := b.outError(row.err); err.Error() != row.want || !errors.Is(err, row.err) {
			t.Errorf("error is %v; want %s", err, row.want)
		}
	}
	if err := b.outError(nil); err != nil {
		t.Errorf("of no error: %v", err)
	}
}

func TestOneBuildAtATime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	unlock, err := openOut(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := openOut(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second build gets in: %v", err)
	}
	unlock()
	unlock, err = openOut(t.Context(), dir)
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	unlock()
}

func TestRoom(t *testing.T) {
	sealed := t.TempDir()
	b := &build{Options: Options{Out: t.TempDir()}, sealed: parts.Part{Dir: sealed}}
	put(t, filepath.Join(sealed, fileRoot), "small")
	put(t, filepath.Join(sealed, fileVerity), "small")
	if err := b.room(); err != nil {
		t.Errorf("a few bytes: %v", err)
	}
	if err := os.Truncate(filepath.Join(sealed, fileRoot), 1<<42); err != nil {
		t.Skipf("this filesystem has no files of 4 TiB: %v", err)
	}
	err := b.room()
	if _, ok := errors.AsType[*parts.PlaceError](err); !ok || !strings.HasPrefix(err.Error(), b.Out+": its filesystem has ") || !strings.Contains(err.Error(), "the image needs 4194304 MiB; free some, or") {
		t.Errorf("4 TiB: %v", err)
	}
}

// held is an output directory with what a build leaves there, and its manifest.
func held(t *testing.T) (string, Manifest) {
	t.Helper()
	dir := t.TempDir()
	m := Manifest{Key: "output-1"}
	for _, name := range []string{FileDisk, FileSums, FileCmdline} {
		put(t, filepath.Join(dir, name), name)
	}
	info, err := os.Stat(filepath.Join(dir, FileDisk))
	if err != nil {
		t.Fatal(err)
	}
	m.Files = []File{{Name: FileDisk, Size: info.Size(), SHA256: "00", Modified: info.ModTime().UTC()}}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, FileManifest), string(text))
	return dir, m
}

func TestIntact(t *testing.T) {
	for _, row := range []struct {
		summary string
		change  func(dir string) error
		want    bool
	}{
		{"nothing changed", func(string) error { return nil }, true},
		{"another size", func(dir string) error { return os.Truncate(filepath.Join(dir, FileDisk), 3) }, false},
		{"another time", func(dir string) error { return os.Chtimes(filepath.Join(dir, FileDisk), time.Now(), time.Unix(1, 0)) }, false},
		{"no disk", func(dir string) error { return os.Remove(filepath.Join(dir, FileDisk)) }, false},
		{"no checksums", func(dir string) error { return os.Remove(filepath.Join(dir, FileSums)) }, false},
		{"no command line", func(dir string) error { return os.Remove(filepath.Join(dir, FileCmdline)) }, false},
	} {
		dir, _ := held(t)
		if err := row.change(dir); err != nil {
			t.Fatal(err)
		}
		m, err := ReadManifest(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.intact(dir); got != row.want {
			t.Errorf("%s: intact is %t", row.summary, got)
		}
	}
	if (Manifest{}).intact(t.TempDir()) {
		t.Error("a manifest without files is intact")
	}
}

func TestReadManifest(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadManifest(dir)
	if _, ok := errors.AsType[*parts.PlaceError](err); !ok || err.Error() != dir+": holds no image (no manifest.json); build one with kiln build -o "+dir {
		t.Errorf("of an empty directory: %v", err)
	}
	put(t, filepath.Join(dir, FileManifest), "{")
	if _, err = ReadManifest(dir); !document.IsInvalid(err) || !strings.Contains(err.Error(), "make it again with kiln build -o "+dir) {
		t.Errorf("of half a manifest: %v", err)
	}
}

func TestTooLargeNamesTheField(t *testing.T) {
	b := &build{Options: Options{Plan: plan.Plan{ImageFile: "my/image.yaml"}}}
	for label, field := range map[string]string{nodefs.LabelESP: "disk.esp", nodefs.LabelRootA: "disk.root", nodefs.LabelRootAVerity: "disk.verity"} {
		err := b.explain(&output.TooLargeError{Partition: label, Need: 300<<20 + 1, Have: 128 << 20})
		if want := "my/image.yaml: " + field + ": partition " + label + " is 128MiB, its content needs 300.0MiB; want at least 376MiB"; !document.IsInvalid(err) || err.Error() != want {
			t.Errorf("error is %v; want %s", err, want)
		}
	}
}

func TestAnInterruptedBuildSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt signal received"))
	out := filepath.Join(t.TempDir(), "out")
	_, err := Run(ctx, Options{Out: out, Firstboot: "/none"})
	if err == nil || !strings.Contains(err.Error(), "interrupted in step inputs (context canceled)") && !strings.Contains(err.Error(), "interrupted in step inputs (interrupt signal received)") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the output directory was made: %v", err)
	}
}

func TestNoFirstboot(t *testing.T) {
	_, err := Run(t.Context(), Options{Out: t.TempDir(), Firstboot: "/none/firstboot"})
	if err == nil || !strings.Contains(err.Error(), "/none/firstboot") || !strings.Contains(err.Error(), "--firstboot") {
		t.Errorf("error is %v", err)
	}
}
