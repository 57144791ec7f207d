package rootfs

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
)

// Composition is what a root is made of besides its packages.
type Composition struct {
	// Packages is the tar of the installed Debian packages.
	Packages string
	// Picks are single files of packages that are not installed.
	Picks []Pick
	// Overlay holds files that lie over the packages, at their paths; all are mode 0644 and owned by root.
	Overlay fs.FS
	// Files are further text files, absolute path to content, mode 0644.
	Files map[string][]byte
	// Programs maps absolute paths to host files, mode 0755.
	Programs map[string]string
	// Links maps absolute paths to the targets of symbolic links.
	Links map[string]string
	// Directories are made empty, mode 0755: mount points.
	Directories []string
	// Kernel's modules lie in the root.
	Kernel Kernel
}

// dropped is what a Debian tree holds that an immutable node has no use for. /var is a fresh filesystem on the node;
// only the package database stays, hidden below the mount, for scanners that read the image.
var dropped = []string{
	"dev", "proc", "sys", "run", "tmp", "boot", "var/cache", "var/log", "var/lib/apt", "var/lib/initramfs-tools", "var/tmp",
	"etc/machine-id", "etc/hostname", "etc/resolv.conf", "etc/fstab", "var/lib/dbus", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old",
	"var/lib/dpkg/info", "var/lib/dpkg/triggers", "var/lib/systemd",
}

// moved are directories that belong to the machine's owner: they are links to the state partition, where tmpfiles.d makes
// what they name.
var moved = map[string]string{
	"home": "var/home", "root": "var/roothome",
}

// mountPoints are the directories that a read-only root cannot make later, with their modes.
var mountPoints = map[string]int64{"dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "tmp": 0o1777, "var": 0o755, "etc": 0o755, "boot": 0o755, "mnt": 0o755}

// Compose merges packages, modules and overlay into one tree, then lets systemd's own programs (from tools) make the
// users of sysusers.d and the enablement of the presets.
func (d Debian) Compose(ctx context.Context, tools Tools, c Composition) (*Tree, error) {
	tree := NewTree(d.Epoch)
	if err := tree.AddTar(c.Packages, keep); err != nil {
		return nil, fmt.Errorf("reading packages: %w", err)
	}
	for _, pick := range c.Picks {
		if err := tree.pick(pick); err != nil {
			return nil, fmt.Errorf("taking files out of %s: %w", pick.Package, err)
		}
	}
	for name, target := range moved {
		tree.Remove(name)
		tree.AddSymlink(name, target)
	}
	for name, mode := range mountPoints {
		tree.AddDir(name, mode)
	}
	for _, name := range c.Directories {
		tree.AddDir(name, 0o755)
	}
	// systemd fills an empty machine-id on the node's first boot; a missing one would make /etc's overlay look like a factory reset.
	tree.AddFile("etc/machine-id", 0o444, nil)
	tree.AddSymlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
	if err := addModules(tree, c.Kernel); err != nil {
		return nil, fmt.Errorf("adding kernel modules: %w", err)
	}
	if err := addOverlay(tree, c); err != nil {
		return nil, fmt.Errorf("adding the overlay: %w", err)
	}
	if err := d.applyDeclarations(ctx, tools, tree); err != nil {
		return nil, fmt.Errorf("applying sysusers.d and presets: %w", err)
	}
	return tree, nil
}

func keep(name string) bool {
	for _, prefix := range dropped {
		if name == prefix || strings.HasPrefix(name, prefix+"/") {
			return false
		}
	}
	return true
}

func addModules(tree *Tree, kernel Kernel) error {
	base := filepath.Join(kernel.Tree(), "usr/lib/modules")
	return filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(kernel.Tree(), path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			tree.AddDir(rel, 0o755)
			return nil
		case entry.Type().IsRegular():
			return tree.AddHostFile(rel, 0o644, path)
		default: // build and source links lead to headers that are not there
			return nil
		}
	})
}

func addOverlay(tree *Tree, c Composition) error {
	err := fs.WalkDir(c.Overlay, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(c.Overlay, path)
		if err != nil {
			return err
		}
		tree.AddFile(path, 0o644, content)
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(c.Files) {
		tree.AddFile(name, 0o644, c.Files[name])
	}
	for _, name := range sortedKeys(c.Programs) {
		if err := tree.AddHostFile(name, 0o755, c.Programs[name]); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(c.Links) {
		tree.AddSymlink(name, c.Links[name])
	}
	return nil
}

// databases are the files that systemd-sysusers writes.
var databases = []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"}

// applyDeclarations runs systemd-sysusers and systemctl preset-all on a copy of the few directories they read, and
// takes what they changed back into the tree.
func (d Debian) applyDeclarations(ctx context.Context, tools Tools, tree *Tree) error {
	dir, err := os.MkdirTemp("", "kiln-declare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := tree.extract(dir, []string{"usr/lib/sysusers.d", "usr/lib/systemd", "etc/systemd", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "usr/lib/os-release"}); err != nil {
		return err
	}
	for _, c := range []command.Command{
		tools.Command("systemd-sysusers", "--root="+dir),
		tools.Command("systemctl", "--root="+dir, "preset-all"),
	} {
		if _, err := d.Run.Run(ctx, c); err != nil {
			return err
		}
	}
	for _, name := range databases {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		tree.replaceContent(name, content)
	}
	return takeUnitLinks(tree, dir)
}

// takeUnitLinks copies the symbolic links below etc/systemd, and drops those that the presets removed.
func takeUnitLinks(tree *Tree, dir string) error {
	for _, name := range tree.Names() {
		if strings.HasPrefix(name, "etc/systemd/") && tree.entries[name].header.Typeflag == tar.TypeSymlink {
			delete(tree.entries, name)
		}
	}
	return filepath.WalkDir(filepath.Join(dir, "etc/systemd"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		tree.AddSymlink(rel, target)
		return err
	})
}

// replaceContent gives an entry new content and keeps its owner and mode.
func (t *Tree) replaceContent(name string, content []byte) {
	old, existed := t.entries[name]
	t.AddFile(name, 0o644, content)
	if existed {
		header := *old.header
		header.Size = int64(len(content))
		t.entries[name] = entry{header: &header, open: t.entries[name].open}
	}
}

// extract writes the entries at or below the given paths to a directory of the host.
func (t *Tree) extract(dir string, paths []string) error {
	for _, name := range t.Names() {
		if !below(name, paths) {
			continue
		}
		e := t.entries[name]
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := extractEntry(e, target); err != nil {
			return fmt.Errorf("extracting %s: %w", name, err)
		}
	}
	return nil
}

func extractEntry(e entry, target string) error {
	switch e.header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(target, 0o755)
	case tar.TypeSymlink:
		return os.Symlink(e.header.Linkname, target)
	case tar.TypeReg:
		if e.header.Size > 1<<20 { // programs: nobody reads them here
			return os.WriteFile(target, nil, 0o644)
		}
		content, err := e.open()
		if err != nil {
			return err
		}
		defer content.Close()
		text, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o644)
	default:
		return nil
	}
}

func below(name string, paths []string) bool {
	for _, p := range paths {
		if name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}
