package bake

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/kiln-os/kiln/builder/bios"
	"github.com/kiln-os/kiln/builder/iso"
	"github.com/kiln-os/kiln/builder/output"
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

// describeInstall writes install.json and the compressed EFI system partition.
func (b *build) describeInstall(dir string) error {
	disk, err := b.disk()
	if err != nil {
		return err
	}
	if err := compress(filepath.Join(dir, fileESPZstd), b.boot.Path(fileESP)); err != nil {
		return fmt.Errorf("compressing the EFI system partition: %w", err)
	}
	manifest := install.Manifest{
		Image: b.Plan.Image.Name + " " + b.version, RootHash: b.rootHash,
		Disk: install.Disk{ID: disk.ID, Size: int64(b.Plan.Layout().MinimumDisk())},
	}
	blob := func(name, host string) (install.Blob, error) {
		info, err := os.Stat(host)
		if err != nil {
			return install.Blob{}, err
		}
		sum, err := parts.SHA256File(host)
		return install.Blob{File: name, Size: info.Size(), SHA256: sum}, err
	}
	if manifest.ESP, err = blob(fileESPZstd, b.boot.Path(fileESP)); err != nil {
		return err
	}
	if manifest.Root, err = blob(nodefs.LiveRoot, b.sealed.Path(fileRoot)); err != nil {
		return err
	}
	if manifest.Verity, err = blob(nodefs.LiveVerity, b.sealed.Path(fileVerity)); err != nil {
		return err
	}
	if b.Plan.Image.BIOS() {
		core, err := blob(fileBIOS, b.boot.Path(fileBIOS))
		if err != nil {
			return err
		}
		code, err := blob(fileBootCode, b.boot.Path(fileBootCode))
		if err != nil {
			return err
		}
		manifest.BIOS, manifest.BootCode = &core, &code
	}
	for i, p := range b.Plan.Layout().Partitions {
		manifest.Disk.Partitions = append(manifest.Disk.Partitions, install.Partition{
			Label: p.Label, Type: p.TypeGUID, ID: disk.Partitions[i].ID, Offset: p.Offset, Size: p.Size, ReadOnly: p.ReadOnly, Content: installed(p.Content),
		})
	}
	text, err := manifest.Render()
	if err != nil {
		return err
	}
	if _, err := install.Parse(install.File, text); err != nil {
		return fmt.Errorf("describing the installation: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, install.File), text, 0o644)
}

// installed is a partition's content in the words of install.json.
func installed(content plan.Content) string {
	switch content {
	case plan.ContentESP:
		return install.ContentESP
	case plan.ContentRoot:
		return install.ContentRoot
	case plan.ContentVerity:
		return install.ContentVerity
	case plan.ContentBIOS:
		return install.ContentBIOS
	default:
		return install.ContentNone
	}
}

// compress packs a file with zstd. One goroutine, so that the bytes do not depend on the machine.
func compress(out, path string) error {
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(out)
	if err != nil {
		return err
	}
	defer target.Close()
	packed, err := zstd.NewWriter(target, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if _, err := io.Copy(packed, source); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	return target.Close()
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

// isoFiles makes what only an ISO image has: GRUB's boot image and menu, and a small EFI system partition with nothing but
// the live system's unified kernel image where firmware looks on removable media.
func (b *build) isoFiles(ctx context.Context, dir, commandLine string) error {
	grub, err := b.grub(ctx)
	if err != nil {
		return err
	}
	if err := grub.ISO(ctx, filepath.Join(dir, fileElTorito)); err != nil {
		return err
	}
	menu := bios.Menu([]bios.Entry{{
		Title: "kiln " + b.version, Kernel: path.Join("/", nodefs.LiveDir, FileKernel), Initramfs: path.Join("/", nodefs.LiveDir, FileInitramfs), CommandLine: commandLine,
	}})
	if err := os.WriteFile(filepath.Join(dir, fileMenu), []byte(menu), 0o644); err != nil {
		return err
	}
	esp := output.ESP{
		Run: b.Run, Tools: b.tools, Epoch: b.Plan.Release.Timestamp, Serial: crc32.ChecksumIEEE([]byte("live " + b.version)),
		Files: map[string]string{"EFI/BOOT/BOOTX64.EFI": filepath.Join(dir, fileUKI)},
	}
	if esp.Size, err = esp.Least(); err != nil {
		return err
	}
	return esp.Write(ctx, filepath.Join(dir, fileEFIImage))
}

// writeISO writes the hybrid image. The live set is below one directory of it, where the initramfs looks; the unified kernel
// image is in the EFI system partition instead.
func (b *build) writeISO(ctx context.Context) error {
	grub, err := b.grub(ctx)
	if err != nil {
		return err
	}
	image := iso.Image{
		Run: b.Run, Tools: grub.Tools, Volume: iso.Volume("kiln " + b.version), Epoch: b.Plan.Release.Timestamp,
		DiskID:    output.DeriveGUID("iso " + b.live.Name),
		BIOSImage: path.Join(bios.DirISO, fileElTorito), HybridMBR: grub.HybridMBR(), EFIImage: b.live.Path(fileEFIImage),
		Files: map[string]string{
			path.Join(bios.DirISO, fileElTorito): b.live.Path(fileElTorito), path.Join(bios.DirISO, fileMenu): b.live.Path(fileMenu),
		},
	}
	for name, host := range b.liveSet() {
		image.Files[path.Join(nodefs.LiveDir, name)] = host
	}
	sum, err := image.Write(ctx, b.next(FileISO))
	if err != nil {
		return err
	}
	return b.addFile(FileISO, sum)
}

// ipxeRoot is the root's URL in boot.ipxe: that of the script's own directory.
const ipxeRoot = "${kiln-url}" + nodefs.LiveRoot

// ipxe is a script for iPXE. It loads everything from where it was itself loaded from, so a copied directory works
// anywhere; who chains it may set kiln-url to another place, and kiln-args to further kernel arguments.
func ipxe(version, commandLine string) string {
	return strings.NewReplacer("VERSION", version, "COMMANDLINE", commandLine, "KERNEL", FileKernel, "INITRAMFS", FileInitramfs).Replace(`#!ipxe
# kiln VERSION, live. Serve the directory of this file by HTTP and chain it. A script that chains it may set
#   kiln-args  further kernel arguments, as in: set kiln-args ip=dhcp kiln.identity=http://10.0.0.1/identity.yaml
#   kiln-url   the directory with the other files, ending in /, when this one comes from elsewhere (by TFTP, say)
isset ${kiln-url} || set kiln-url ${cwduri}
echo Starting kiln VERSION from ${kiln-url}
kernel ${kiln-url}KERNEL initrd=INITRAMFS COMMANDLINE ${kiln-args} || goto failed
initrd --name INITRAMFS ${kiln-url}INITRAMFS || goto failed
boot || goto failed
:failed
echo kiln could not be started from ${kiln-url}; starting again in a minute
sleep 60
reboot
`)
}
