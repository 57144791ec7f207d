package bake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/builder/parts"
)

// otherOut ends messages about the output directory.
const otherOut = "name another directory with -o"

// checkOut finds, before minutes of building, that dir cannot become the output directory. It makes nothing.
func checkOut(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
			continue // the first one that exists decides; the root and "." do
		case err == nil && !info.IsDir():
			return &parts.PlaceError{Dir: at, Text: "is a file, and the results want a directory; remove it, or " + otherOut}
		case err == nil:
			err = unix.Access(at, unix.W_OK|unix.X_OK)
		}
		if err != nil {
			return &parts.PlaceError{Dir: at, Err: err, Text: fmt.Sprintf("cannot be written (%v), and %s is to hold the results; change that, or %s", err, dir, otherOut)}
		}
		return nil
	}
}

// openOut makes the output directory and keeps other builds out of it until the returned function is called.
func openOut(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the output directory: %w", err)
	}
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := parts.Lock(ctx, file); err != nil {
		return nil, fmt.Errorf("waiting for another build into %s: %w", dir, err)
	}
	return func() { file.Close() }, nil
}

// nextDir holds, within the output directory, what is to take the place of what lies there now. Only when all of it is
// whole, it is renamed, file by file: an interrupted build leaves the directory as it was.
const nextDir = ".kiln-next"

// next is the path of a file that is to come.
func (b *build) next(name string) string { return filepath.Join(b.Out, nextDir, name) }

// writeOut makes the image's files, unless they are there.
func (b *build) writeOut(ctx context.Context) (note string, err error) {
	image := b.Plan.Image
	key := parts.Key("output", "4", b.boot.Name, b.sealed.Name, image.Name, image.Format, image.Copies, b.Plan.Layout(), b.live.Name)
	_, missing := os.Stat(b.Out)
	unlock, err := openOut(ctx, b.Out)
	if err != nil {
		return "", b.outError(err)
	}
	b.unlock = func() {
		// What a finished build left of it is nothing.
		_ = os.RemoveAll(b.next(""))
		if missing != nil {
			_ = os.Remove(b.Out) // only if it is empty, as it was made
		}
		unlock()
	}
	if previous, err := ReadManifest(b.Out); err == nil && previous.Key == key && previous.intact(b.Out) {
		previous.Unchanged, previous.Timings = true, b.manifest.Timings
		b.manifest = previous
		return "unchanged", nil
	}
	if err := errors.Join(os.RemoveAll(b.next("")), os.Mkdir(b.next(""), 0o755)); err != nil {
		return "", b.outError(err)
	}
	if err := b.room(); err != nil {
		return "", err
	}
	task := b.Progress.Start("write", fmt.Sprintf("writing %s into %s", image.Name, b.Out))
	if err := b.writeFormat(ctx); err != nil {
		task.Fail()
		return "", b.outError(err)
	}
	if err := b.writeEnrolment(); err != nil {
		task.Fail()
		return "", b.outError(err)
	}
	task.Done("")
	b.describe(key)
	return "", nil
}

// commit puts what was made into its place, the manifest last: only with it the directory holds an image.
func (b *build) commit() error {
	previous, _ := ReadManifest(b.Out) // of a directory without one nothing is known
	if err := remove(filepath.Join(b.Out, FileManifest)); err != nil {
		return err
	}
	stays := map[string]bool{}
	for _, file := range b.manifest.Files {
		stays[file.Name] = true
	}
	for _, file := range previous.Files {
		if stays[file.Name] || !filepath.IsLocal(file.Name) {
			continue
		}
		if err := remove(filepath.Join(b.Out, file.Name)); err != nil {
			return err
		}
		if dir := filepath.Dir(file.Name); dir != "." {
			_ = os.Remove(filepath.Join(b.Out, dir)) // only once it is empty
		}
	}
	names := []string{FileSums, FileCmdline}
	for _, file := range b.manifest.Files {
		names = append(names, file.Name)
	}
	for _, name := range append(names, FileManifest) {
		place := filepath.Join(b.Out, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), os.Rename(b.next(name), place)); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// room refuses to begin what the filesystem has no space for.
func (b *build) room() error {
	need := int64(b.Plan.Image.Disk.ESP) / 4
	contents := []string{b.sealed.Path(fileRoot), b.sealed.Path(fileVerity)}
	if b.Plan.Image.Live() {
		contents = append(contents, b.kernel.Image(), b.boot.Path(fileInitramfs), b.live.Path(fileUKI), b.live.Path(fileESPZstd))
	}
	for _, path := range contents {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		need += info.Size()
	}
	need *= fileCount(b.Plan.Image)
	var stat syscall.Statfs_t
	if err := syscall.Statfs(b.Out, &stat); err != nil {
		return err
	}
	if have := int64(stat.Bavail) * stat.Bsize; have < need {
		return &parts.PlaceError{Dir: b.Out, Text: fmt.Sprintf(
			"its filesystem has %d MiB free, and the image needs %d MiB; free some, or %s", have>>20, need>>20, otherOut)}
	}
	return nil
}

// outError says what to do when err comes of what the output directory is, or of a full filesystem.
func (b *build) outError(err error) error {
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case parts.IsFull(err):
		return &parts.PlaceError{Dir: b.Out, Err: err, Text: "no space left while writing the image; free some, or " + otherOut}
	case errors.As(err, &path) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR)):
		return &parts.PlaceError{Dir: path.Path, Err: err, Text: fmt.Sprintf("cannot be written (%v), and %s is to hold the results; change that, or %s", path.Err, b.Out, otherOut)}
	default:
		return err
	}
}
