package rootfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
)

// Tools is an unpacked tree of Debian packages whose programs run on any Linux host, without a chroot and without
// root, by the tree's own dynamic loader. The host's versions of these programs never matter.
type Tools struct {
	// Dir is the tree's root.
	Dir string
}

// buildTools are the packages whose programs shape bytes.
var buildTools = []string{
	"base-files", "squashfs-tools", "erofs-utils", "mtools", "dosfstools", "kmod", "systemd", "systemd-boot-efi", "busybox-static",
}

// mediumTools are the packages that make what a BIOS starts, and ISO images: GRUB's core images and xorriso. They are a
// tree of their own, so that the many parts made with the others do not depend on them.
var mediumTools = []string{"base-files", "grub-common", "grub-pc-bin", "xorriso"}

// formatTools are the packages for formats that kiln does not write itself.
var formatTools = []string{"base-files", "qemu-utils"}

// vmTools are the packages that boot what was built; qemu-utils makes the disk's overlay and converts formats.
var vmTools = []string{
	"base-files", "qemu-system-x86", "qemu-system-data", "qemu-utils", "ovmf", "seabios", "ipxe-qemu",
}

// testTools are other people's programs that check what kiln wrote, and iPXE for firmware that has none.
var testTools = []string{
	"base-files", "cryptsetup-bin", "gdisk", "fdisk", "e2fsprogs", "dosfstools", "mtools", "squashfs-tools", "erofs-utils", "systemd-repart", "qemu-utils", "zstd", "tar", "coreutils",
	"sbsigntool", "xorriso", "openssl", "systemd-ukify", "python3-pefile", "ipxe",
}

// BuildTools returns the tree that the builder's programs come from, making it on first use.
func (d Debian) BuildTools(ctx context.Context) (Tools, error) {
	return d.tools(ctx, "tools", buildTools)
}

// MediumTools returns the tree that GRUB's images and ISO images are made with.
func (d Debian) MediumTools(ctx context.Context) (Tools, error) {
	return d.tools(ctx, "medium-tools", mediumTools)
}

// FormatTools returns the tree with qemu-img, which only some formats need.
func (d Debian) FormatTools(ctx context.Context) (Tools, error) {
	return d.tools(ctx, "format-tools", formatTools)
}

// VMTools returns the tree with QEMU and its firmware.
func (d Debian) VMTools(ctx context.Context) (Tools, error) {
	return d.tools(ctx, "vm-tools", vmTools)
}

// TestTools returns the tree with the programs that check kiln's output.
func (d Debian) TestTools(ctx context.Context) (Tools, error) {
	return d.tools(ctx, "test-tools", testTools)
}

func (d Debian) tools(ctx context.Context, kind string, packages []string) (Tools, error) {
	key := parts.Key(kind, "tree-1", d.Suite, d.Mirror, packages, excludes, d.Epoch.Unix())
	if part, ok := d.Store.Find(key); ok {
		return Tools{Dir: part.Dir}, nil
	}
	packed, err := d.Extracted(ctx, kind+"-packages", packages)
	if err != nil {
		return Tools{}, err
	}
	part, err := d.Store.Make(ctx, key, func(ctx context.Context, dir string) error {
		return unpack(packed.Path("root.tar"), dir, func(string) bool { return true })
	})
	if err != nil {
		return Tools{}, fmt.Errorf("unpacking %s: %w", kind, err)
	}
	// The tree is the packed part's only use.
	return Tools{Dir: part.Dir}, parts.RemoveAll(packed.Dir)
}

// Command runs the tree's program name (a file of usr/bin or usr/sbin) by the tree's own loader and libraries.
func (t Tools) Command(name string, args ...string) command.Command {
	program := t.Path("usr/bin", name)
	if _, err := os.Lstat(program); err != nil {
		program = t.Path("usr/sbin", name)
	}
	libraries := t.Path("usr/lib/x86_64-linux-gnu")
	return command.Command{
		Name: t.Path("usr/lib64/ld-linux-x86-64.so.2"),
		Args: append([]string{"--library-path", libraries + ":" + libraries + "/systemd", "--argv0", name, program}, args...),
		Env:  []string{"LC_ALL=C.UTF-8"},
	}
}

// Path is a path within the tree.
func (t Tools) Path(elem ...string) string {
	return filepath.Join(append([]string{t.Dir}, elem...)...)
}

// PackageTar returns the path of a tar with the files of packages and of all they depend on: a container image's layer
// is made from it.
func (d Debian) PackageTar(ctx context.Context, packages []string) (string, error) {
	part, err := d.Extracted(ctx, "image-packages", packages)
	return part.Path("root.tar"), err
}
