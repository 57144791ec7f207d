package bake

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/kiln-os/kiln/builder/output"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/plan"
)

// Names of the disks in the output directory.
const (
	FileDisk  = "disk.raw"
	FileZstd  = FileDisk + ".zst"
	FileQCOW2 = "disk.qcow2"
	FileVHD   = "disk.vhd"
	FileVMDK  = "disk.vmdk"
	FileOVA   = "disk.ova"
	FileGCE   = "disk.tar.gz"
)

// diskFile is the name of a format's disk; empty for a format without one.
func diskFile(format string) string {
	switch format {
	case plan.FormatDisk, "": // manifests of kiln before there were formats have none
		return FileDisk
	case plan.FormatQCOW2:
		return FileQCOW2
	case plan.FormatVHD:
		return FileVHD
	case plan.FormatVMDK:
		return FileVMDK
	case plan.FormatGCE:
		return FileGCE
	default:
		return ""
	}
}

// writeFormat makes the files of the image's format in the directory of what is to come.
func (b *build) writeFormat(ctx context.Context) error {
	disk, err := b.disk()
	if err != nil {
		return err
	}
	switch format := b.Plan.Image.Format; format {
	case plan.FormatDisk:
		names := []string{FileDisk}
		if slices.Contains(b.Plan.Image.Copies, plan.CopyZstd) {
			names = append(names, FileZstd)
		}
		return b.write(disk, names)
	case plan.FormatQCOW2:
		return b.writeQCOW2(ctx, disk)
	case plan.FormatVMDK:
		if err := b.write(disk, []string{FileVMDK}); err != nil {
			return err
		}
		return b.writeOVA(disk)
	case plan.FormatVHD, plan.FormatGCE:
		return b.write(disk, []string{diskFile(format)})
	case plan.FormatPXE:
		return b.writePXE()
	case plan.FormatISO:
		return b.writeISO(ctx)
	default:
		return fmt.Errorf("the format %q has no writer", format)
	}
}

// begin starts a file with the disk's content; its name says in which form.
func (b *build) begin(name string, disk output.Disk) (output.Target, error) {
	path, age := b.next(name), b.Plan.Release.Timestamp
	// id stands for the disk's content where a format wants an identity for it.
	id := output.DeriveGUID(b.boot.Name)
	switch name {
	case FileZstd:
		return output.CreateZstd(path)
	case FileVHD:
		return output.CreateVHD(path, id, age)
	case FileVMDK:
		return output.CreateVMDK(path, disk.Size, id)
	case FileGCE:
		return output.CreateGCE(path, disk, age)
	default:
		return output.CreateRaw(path)
	}
}

// write streams the disk into files, all from one reading.
func (b *build) write(disk output.Disk, names []string) error {
	var targets []output.Target
	for _, name := range names {
		target, err := b.begin(name, disk)
		if err != nil {
			return err
		}
		targets = append(targets, target)
	}
	sums, err := disk.Write(targets...)
	if err != nil {
		return err
	}
	for i, name := range names {
		if err := b.addFile(name, sums[i]); err != nil {
			return err
		}
	}
	return nil
}

// writeQCOW2 goes by a raw disk, for qemu-img has to seek in what it reads.
func (b *build) writeQCOW2(ctx context.Context, disk output.Disk) error {
	b.Early.wait(ctx, errandFormat)
	tools, err := b.Debian.FormatTools(ctx)
	if err != nil {
		return err
	}
	raw := b.next(FileDisk)
	target, err := b.begin(FileDisk, disk)
	if err != nil {
		return err
	}
	if _, err := disk.Write(target); err != nil {
		return err
	}
	qcow2 := b.next(FileQCOW2)
	if err := (output.QCOW2{Run: b.Run, Tools: tools}).Convert(ctx, raw, qcow2); err != nil {
		return err
	}
	if err := os.Remove(raw); err != nil {
		return err
	}
	sum, err := parts.SHA256File(qcow2)
	if err != nil {
		return err
	}
	return b.addFile(FileQCOW2, sum)
}

// writeOVA wraps the VMDK, which is the file made last.
func (b *build) writeOVA(disk output.Disk) error {
	made := b.made[len(b.made)-1]
	sum, err := output.OVA{
		Name: "kiln", Version: b.version, VMDK: b.next(made.Name), Sum: made.SHA256, Capacity: disk.Size, Epoch: b.Plan.Release.Timestamp,
	}.Write(b.next(FileOVA))
	if err != nil {
		return fmt.Errorf("writing the virtual appliance: %w", err)
	}
	return b.addFile(FileOVA, sum)
}

// fileCount is how many files with the disk's content lie in the directory at once, at most, while format is written.
func fileCount(image plan.Image) int64 {
	switch image.Format {
	case plan.FormatDisk:
		return int64(1 + len(image.Copies))
	case plan.FormatQCOW2, plan.FormatVMDK:
		return 2
	default:
		return 1
	}
}
