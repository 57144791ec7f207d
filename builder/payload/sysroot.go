package payload

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/release"
)

// sysrootRecipe is part of the key of a sysroot, and by it of what is linked with one.
const sysrootRecipe = 1

// librariesDir is where Debian keeps the libraries of the one architecture that there is.
const librariesDir = "usr/lib/x86_64-linux-gnu"

// sysroot is the part with the headers and static libraries that a source names, and no part for one that names none. They
// come from the image's own Debian release, so that neither what the host has nor how old it is matters.
func (s Source) sysroot(ctx context.Context, source release.Source) (parts.Part, error) {
	if len(source.Libraries) == 0 {
		return parts.Part{}, nil
	}
	extracted, err := s.PackageTar(ctx, source.Libraries)
	if err != nil {
		return parts.Part{}, fmt.Errorf("extracting %s: %w", strings.Join(source.Libraries, ", "), err)
	}
	input, err := parts.SHA256File(extracted)
	if err != nil {
		return parts.Part{}, err
	}
	return s.Store.Make(ctx, parts.Key("sysroot", sysrootRecipe, input), func(_ context.Context, dir string) error {
		if err := unpackSysroot(extracted, dir); err != nil {
			return fmt.Errorf("unpacking %s: %w", strings.Join(source.Libraries, ", "), err)
		}
		return nil
	})
}

// environment adds the sysroot to what cgo passes to the compiler and the linker. The directory is named to the linker by
// itself, too: Debian's gcc looks beside itself before it looks there, and would take the host's libc.
func (t tools) environment() []string {
	if t.sysroot.Dir == "" {
		return nil
	}
	libraries := t.sysroot.Path(librariesDir)
	return []string{"CGO_CFLAGS=-O2 -g0 --sysroot=" + t.sysroot.Dir,
		"CGO_LDFLAGS=--sysroot=" + t.sysroot.Dir + " -B" + libraries + " -L" + libraries}
}

// unpackSysroot writes what compilers read of an extracted Debian tree below dir: headers, and what lies beside the
// libraries. Links come last and stay within the tree, so that no file is written through one.
func unpackSysroot(tarball, dir string) error {
	file, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer file.Close()
	links := map[string]string{}
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", tarball, err)
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		// Some of the kernel's headers are links to what lies below usr/lib/linux.
		if !strings.HasPrefix(name, "usr/include/") && !strings.HasPrefix(name, "usr/lib/linux/") && path.Dir(name) != librariesDir {
			continue
		}
		switch header.Typeflag {
		case tar.TypeReg:
			err = writeNew(filepath.Join(dir, name), reader)
		case tar.TypeSymlink:
			if target := path.Join(path.Dir(name), header.Linkname); !path.IsAbs(header.Linkname) && !strings.HasPrefix(target, "../") {
				links[name] = header.Linkname
			}
		}
		if err != nil {
			return err
		}
	}
	names := make([]string, 0, len(links))
	for name := range links {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(links[name], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func writeNew(name string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
