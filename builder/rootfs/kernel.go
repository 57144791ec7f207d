package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/builder/parts"
)

// Kernel is a kernel package's content: the image and its modules, with the modules' indexes made by depmod.
type Kernel struct {
	part parts.Part
	// Version is the kernel's release, the name of its module directory.
	Version string
}

// Image is the path of the bootable kernel.
func (k Kernel) Image() string { return k.part.Path("vmlinuz") }

// Tree is the directory that holds usr/lib/modules/VERSION.
func (k Kernel) Tree() string { return k.part.Path("tree") }

// Key names the part, for keys of what is made from it.
func (k Kernel) Key() string { return k.part.Name }

// Kernel unpacks a kernel package. Its maintainer scripts are not run: they would make an initramfs that nobody boots.
func (d Debian) Kernel(ctx context.Context, tools Tools, pkg string) (Kernel, error) {
	key := parts.Key("kernel", "2", d.Suite, d.Mirror, pkg, d.Epoch.Unix())
	part, found := d.Store.Find(key)
	if !found {
		packed, err := d.Extracted(ctx, "kernel-packages", []string{pkg})
		if err != nil {
			return Kernel{}, err
		}
		part, err = d.Store.Make(ctx, key, func(ctx context.Context, dir string) error {
			return d.unpackKernel(ctx, tools, packed.Path("root.tar"), dir)
		})
		if err != nil {
			return Kernel{}, fmt.Errorf("unpacking kernel %s: %w", pkg, err)
		}
		if err := parts.RemoveAll(packed.Dir); err != nil {
			return Kernel{}, err
		}
	}
	version, err := kernelVersion(part.Path("tree"))
	return Kernel{part: part, Version: version}, err
}

func (d Debian) unpackKernel(ctx context.Context, tools Tools, tarball, dir string) error {
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	isKernel := func(name string) bool {
		return strings.HasPrefix(name, "usr/lib/modules/") || strings.HasPrefix(name, "boot/vmlinuz-") ||
			strings.HasPrefix(name, "boot/config-") || name == "usr/lib/modules"
	}
	if err := unpack(tarball, tree, isKernel); err != nil {
		return err
	}
	version, err := kernelVersion(tree)
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tree, "boot", "vmlinuz-"+version), filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	// kubeadm's preflight checks want to know how the kernel was configured and look here, among other places.
	modules := filepath.Join(tree, "usr/lib/modules", version)
	if err := os.Rename(filepath.Join(tree, "boot", "config-"+version), filepath.Join(modules, "config")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(tree, "boot")); err != nil {
		return err
	}
	// depmod is kmod under another name; it reads the modules below usr/lib of a merged tree only through /lib.
	if err := os.Symlink("usr/lib", filepath.Join(tree, "lib")); err != nil {
		return err
	}
	depmod := tools.Command("kmod", "-b", tree, version)
	depmod.Args = withArgv0(depmod.Args, "depmod")
	if _, err := d.Run.Run(ctx, depmod); err != nil {
		return fmt.Errorf("indexing modules: %w", err)
	}
	return os.Remove(filepath.Join(tree, "lib"))
}

func withArgv0(args []string, name string) []string {
	args = append([]string(nil), args...)
	for i, arg := range args {
		if arg == "--argv0" {
			args[i+1] = name
		}
	}
	return args
}

func kernelVersion(tree string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(tree, "usr/lib/modules"))
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", errors.New("want exactly one kernel in the package")
	}
	return entries[0].Name(), nil
}
