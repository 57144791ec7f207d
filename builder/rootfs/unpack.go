package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// unpack writes the entries of a tar that want accepts (by clean path, without leading slash) below dir, owned by
// whoever runs it. Device nodes are left out. Symbolic links are made last, so that none leads a file out of dir.
func unpack(tarball, dir string, want func(name string) bool) error {
	file, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer file.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	links := map[string]string{}
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", tarball, err)
		}
		name := clean(header.Name)
		if name == "" || !want(name) {
			continue
		}
		if header.Typeflag == tar.TypeSymlink {
			links[name] = header.Linkname
			continue
		}
		if err := unpackEntry(root, header, reader, name); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
	for _, name := range sortedKeys(links) {
		if err := mkdirAll(root, path.Dir(name)); err != nil {
			return err
		}
		if err := os.Symlink(links[name], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func unpackEntry(root *os.Root, header *tar.Header, content io.Reader, name string) error {
	if err := mkdirAll(root, path.Dir(name)); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return mkdirAll(root, name)
	case tar.TypeLink:
		return root.Link(clean(header.Linkname), name)
	case tar.TypeReg:
		mode := os.FileMode(header.Mode).Perm() | 0o600
		out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, content); err != nil {
			return errors.Join(err, out.Close())
		}
		return out.Close()
	default:
		return nil
	}
}

func mkdirAll(root *os.Root, dir string) error {
	if dir == "." || dir == "" {
		return nil
	}
	return root.MkdirAll(dir, 0o755)
}

// clean turns "./usr/bin/" into "usr/bin", and the root itself into "".
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	return name
}
