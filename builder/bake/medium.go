package bake

import (
	"context"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"

	"github.com/kiln-os/kiln/builder/bios"
	"github.com/kiln-os/kiln/builder/iso"
	"github.com/kiln-os/kiln/builder/output"
	"github.com/kiln-os/kiln/internal/nodefs"
)

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
