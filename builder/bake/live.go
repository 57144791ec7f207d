package bake

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/internal/install"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Names of a live set's files, beside those of nodefs: what the firmware or a loader starts, and what an installer writes.
const (
	FileISO    = "kiln.iso"
	FileKernel = "vmlinuz"
	// FileInitramfs is not called after its compression: that may change, and the name is in people's own boot menus.
	FileInitramfs = "initramfs"
	FileUKI       = fileUKI
	FileIPXE      = "boot.ipxe"
	fileESPZstd   = fileESP + ".zst"
)

// Files of the live part that only an ISO image has.
const (
	fileElTorito = "eltorito.img"
	fileEFIImage = "efi.img"
)

// makeLive makes what a live system is started by and installs from: the files of the live part. It describes the disk, whose
// EFI system partition is made before, so that the live command line can vouch for it.
func (b *build) makeLive(ctx context.Context) (note string, err error) {
	if !b.Plan.Image.Live() {
		return "", nil
	}
	key := parts.Key("live", "1", b.boot.Name, b.Plan.Image.Format, b.Plan.Layout(), b.signedBy())
	b.live, err = b.makePart(ctx, key, "live", "making the live system's own boot files", func(ctx context.Context, dir string, _ *progress.Task) error {
		if err := b.describeInstall(dir); err != nil {
			return err
		}
		sum, err := parts.SHA256File(filepath.Join(dir, install.File))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fileInstallSum), []byte(sum), 0o644); err != nil {
			return err
		}
		if err := b.liveUKI(dir, b.liveCommandLine(sum)); err != nil {
			return err
		}
		if b.Plan.Image.Format == plan.FormatPXE {
			return os.WriteFile(filepath.Join(dir, FileIPXE), []byte(ipxe(b.version, b.Plan.LiveCommandLine(b.rootHash, ipxeRoot, sum))), 0o644)
		}
		return b.isoFiles(ctx, dir, b.liveCommandLine(sum))
	})
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(b.live.Path(fileInstallSum))
	b.installSum = string(sum)
	return "", err
}

// fileInstallSum keeps the digest of install.json in the live part.
const fileInstallSum = "install.sha256"

// commandLine is the kernel's, as the image's own unified kernel image has it.
func (b *build) commandLine() string {
	if b.Plan.Image.Live() {
		return b.liveCommandLine(b.installSum)
	}
	return b.Plan.CommandLine(b.rootHash)
}

// liveCommandLine is that of a live system. What UEFI has loaded by HTTP is told by DHCP where it came from.
func (b *build) liveCommandLine(installSum string) string {
	root := nodefs.RootDHCP
	if b.Plan.Image.Format == plan.FormatISO {
		root = nodefs.RootMedium
	}
	return b.Plan.LiveCommandLine(b.rootHash, root, installSum)
}

func (b *build) liveUKI(dir, commandLine string) error {
	program, err := b.uki(b.boot.Path(fileInitramfs), commandLine)
	if err != nil {
		return err
	}
	return b.writeProgram(filepath.Join(dir, fileUKI), program)
}

// liveSet maps the names of the files of the live set to host files.
func (b *build) liveSet() map[string]string {
	files := map[string]string{
		nodefs.LiveRoot: b.sealed.Path(fileRoot), nodefs.LiveVerity: b.sealed.Path(fileVerity),
		FileKernel: b.kernel.Image(), FileInitramfs: b.boot.Path(fileInitramfs),
		install.File: b.live.Path(install.File), fileESPZstd: b.live.Path(fileESPZstd),
	}
	if b.Plan.Image.BIOS() {
		files[fileBIOS], files[fileBootCode] = b.boot.Path(fileBIOS), b.boot.Path(fileBootCode)
	}
	if b.Plan.Image.Format == plan.FormatPXE {
		files[FileUKI], files[FileIPXE] = b.live.Path(fileUKI), b.live.Path(FileIPXE)
	}
	return files
}

// writePXE copies the live set: a directory to be served by HTTP as it is.
func (b *build) writePXE() error {
	files := b.liveSet()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := copyFile(b.next(name), files[name]); err != nil {
			return err
		}
		sum, err := parts.SHA256File(b.next(name))
		if err != nil {
			return err
		}
		if err := b.addFile(name, sum); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies: a link would let somebody who edits the result spoil the cache.
func copyFile(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
