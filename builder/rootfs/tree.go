package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"time"
)

// Tree is a root filesystem in the making: entries by clean path, each with its tar header and where its content comes
// from. It holds no file content itself, so a root of any size costs little memory.
type Tree struct {
	entries map[string]entry
	epoch   time.Time
}

type entry struct {
	header *tar.Header
	// open returns the content of a regular file.
	open func() (io.ReadCloser, error)
}

// NewTree is an empty root. Every file gets the time epoch.
func NewTree(epoch time.Time) *Tree {
	return &Tree{entries: map[string]entry{"": dirEntry("", 0o755)}, epoch: epoch}
}

func dirEntry(name string, mode int64) entry {
	return entry{header: &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
}

// AddTar adds the entries of a tar file that keep accepts, with their owners, modes and extended attributes.
func (t *Tree) AddTar(tarball string, keep func(name string) bool) error {
	file, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", tarball, err)
		}
		name := clean(header.Name)
		if !keep(name) {
			continue
		}
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		t.entries[name] = entry{header: header, open: section(tarball, offset, header.Size)}
	}
}

// section opens size bytes of a file from offset on.
func section(file string, offset, size int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return struct {
			io.Reader
			io.Closer
		}{io.LimitReader(f, size), f}, nil
	}
}

// AddFile adds a regular file owned by root, replacing what is there.
func (t *Tree) AddFile(name string, mode int64, content []byte) {
	t.add(name, &tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content))}, func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(string(content))), nil
	})
}

// AddHostFile adds a regular file whose content is read from the host's path when the tree is written.
func (t *Tree) AddHostFile(name string, mode int64, host string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	t.add(name, &tar.Header{Typeflag: tar.TypeReg, Mode: mode, Size: info.Size()}, func() (io.ReadCloser, error) { return os.Open(host) })
	return nil
}

// AddDir adds a directory owned by root, unless there is one.
func (t *Tree) AddDir(name string, mode int64) {
	if _, ok := t.entries[clean(name)]; !ok {
		t.add(name, &tar.Header{Typeflag: tar.TypeDir, Mode: mode}, nil)
	}
}

// AddSymlink adds a symbolic link, replacing what is there.
func (t *Tree) AddSymlink(name, target string) {
	t.add(name, &tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, nil)
}

func (t *Tree) add(name string, header *tar.Header, open func() (io.ReadCloser, error)) {
	name = t.follow(clean(name))
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if _, ok := t.entries[dir]; ok {
			break
		}
		t.entries[dir] = dirEntry(dir, 0o755)
	}
	header.Name = name
	t.entries[name] = entry{header: header, open: open}
}

// follow resolves symbolic links among the parents of name (a merged /usr has /bin -> usr/bin), so that an overlay
// file cannot land beside the directory it means.
func (t *Tree) follow(name string) string {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		return name
	}
	dir = t.follow(dir)
	if e, ok := t.entries[dir]; ok && e.header.Typeflag == tar.TypeSymlink {
		target := e.header.Linkname
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(dir), target)
		}
		dir = t.follow(clean(target))
	}
	return path.Join(dir, base)
}

// Remove drops name and everything below it.
func (t *Tree) Remove(name string) {
	name = clean(name)
	for key := range t.entries {
		if key == name || strings.HasPrefix(key, name+"/") {
			delete(t.entries, key)
		}
	}
}

// Read returns the content of a regular file.
func (t *Tree) Read(name string) ([]byte, error) {
	e, ok := t.entries[t.follow(clean(name))]
	if !ok || e.header.Typeflag != tar.TypeReg {
		return nil, fmt.Errorf("reading %s of the root: %w", name, os.ErrNotExist)
	}
	content, err := e.open()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	return io.ReadAll(content)
}

// Names lists the entries in order, the root itself as "".
func (t *Tree) Names() []string { return sortedKeys(t.entries) }

// Size is the sum of all regular files, in bytes.
func (t *Tree) Size() int64 {
	var sum int64
	for _, e := range t.entries {
		if e.header.Typeflag == tar.TypeReg {
			sum += e.header.Size
		}
	}
	return sum
}

// Write writes the tree as a tar, sorted by path, every time set to the epoch. Hard links come after all files, so
// that none precedes what it names. Progress, when not nil, gets the number of content bytes written.
func (t *Tree) Write(out io.Writer, progress io.Writer) error {
	writer := tar.NewWriter(out)
	var links []string
	for _, name := range sortedKeys(t.entries) {
		if t.entries[name].header.Typeflag == tar.TypeLink {
			links = append(links, name)
			continue
		}
		if err := t.writeEntry(writer, name, progress); err != nil {
			return fmt.Errorf("writing /%s of the root: %w", name, err)
		}
	}
	for _, name := range links {
		if err := t.writeEntry(writer, name, progress); err != nil {
			return fmt.Errorf("writing /%s of the root: %w", name, err)
		}
	}
	return writer.Close()
}

func (t *Tree) writeEntry(writer *tar.Writer, name string, progress io.Writer) error {
	e := t.entries[name]
	header := *e.header
	header.Name, header.ModTime = "./"+name, t.epoch
	header.AccessTime, header.ChangeTime, header.Uname, header.Gname = time.Time{}, time.Time{}, "", ""
	header.Format = tar.FormatPAX
	if header.Typeflag == tar.TypeLink {
		header.Linkname = "./" + clean(header.Linkname)
	}
	if header.Typeflag == tar.TypeDir && name != "" {
		header.Name += "/"
	}
	if err := writer.WriteHeader(&header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg || header.Size == 0 {
		return nil
	}
	content, err := e.open()
	if err != nil {
		return err
	}
	defer content.Close()
	target := io.Writer(writer)
	if progress != nil {
		target = io.MultiWriter(writer, progress)
	}
	n, err := io.Copy(target, content)
	if err == nil && n != header.Size {
		err = fmt.Errorf("has %d bytes, had %d when the build began", n, header.Size)
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
