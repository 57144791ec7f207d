// Package bios makes what a BIOS starts: GRUB's core images for disks and for ISO images, by the grub-mkimage of a tools
// tree, the boot code of a disk's first sector, and the menu that GRUB reads. On a disk GRUB finds its menu, kernel and
// initramfs in the EFI system partition, so that one partition holds all that any firmware starts.
package bios

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// GRUB makes core images with the programs and modules of a tools tree.
type GRUB struct {
	Run   command.Runner
	Tools rootfs.Tools
}

// common are the modules of every core image: all that the menu uses, so that none is looked for on the disk.
var common = []string{"biosdisk", "normal", "linux", "serial", "terminal", "echo", "sleep", "reboot"}

// DirDisk and DirISO are where GRUB looks for grub.cfg: in the EFI system partition, and in an ISO image.
const (
	DirDisk = "grub"
	DirISO  = "boot/grub"
)

// Disk makes the core image of a disk whose EFI system partition has the given number, counted from 1. It is found on
// the disk that the BIOS started from, whatever others there are.
func (g GRUB) Disk(ctx context.Context, esp int, out string) error {
	return g.image(ctx, "i386-pc", fmt.Sprintf("(,gpt%d)/%s", esp, DirDisk), []string{"part_gpt", "fat"}, out)
}

// ISO makes the boot image of a hybrid ISO: the BIOS starts it as El Torito says, the code of HybridMBR from a USB disk.
func (g GRUB) ISO(ctx context.Context, out string) error {
	return g.image(ctx, "i386-pc-eltorito", "/"+DirISO, []string{"iso9660"}, out)
}

// HybridMBR is the path of the code for the first sector of an ISO image that is written to a USB disk.
func (g GRUB) HybridMBR() string { return g.file("boot_hybrid.img") }

func (g GRUB) file(name string) string { return g.Tools.Path("usr/lib/grub/i386-pc", name) }

func (g GRUB) image(ctx context.Context, format, prefix string, modules []string, out string) error {
	args := append([]string{"-O", format, "-d", g.file(""), "-p", prefix, "-o", out}, modules...)
	if _, err := g.Run.Run(ctx, g.Tools.Command("grub-mkimage", append(args, common...)...)); err != nil {
		return fmt.Errorf("making GRUB's core image: %w", err)
	}
	return nil
}

const sector = 512

// BootCodeSize is how much of a disk's first sector is code; the disk's signature and the partition table follow.
const BootCodeSize = 440

// Offsets in GRUB's boot.img (include/grub/i386/pc/boot.h) and in the block list at the end of diskboot.img, the core
// image's first sector.
const (
	bootKernelSector = 0x5c // uint64: where the core image begins
	bootDriveCheck   = 0x66 // a jump, over which "the drive is what the BIOS says" is left out
	listStart        = sector - 12
	listLength       = sector - 4
	listSegment      = sector - 2
	coreSegment      = 0x820
)

// nopNop takes the place of the jump: like grub-install, hard disks do not trust a BIOS that passes a floppy's number.
var nopNop = []byte{0x90, 0x90}

// BootCode is the code of the first sector of a disk whose core image begins at the given sector.
func (g GRUB) BootCode(core uint64) ([]byte, error) {
	boot, err := os.ReadFile(g.file("boot.img"))
	if err != nil {
		return nil, fmt.Errorf("reading GRUB's boot sector: %w", err)
	}
	if len(boot) != sector || boot[bootDriveCheck] != 0xeb {
		return nil, fmt.Errorf("reading GRUB's boot sector: it is not laid out as that of GRUB 2.12")
	}
	binary.LittleEndian.PutUint64(boot[bootKernelSector:], core)
	copy(boot[bootDriveCheck:], nopNop)
	return boot[:BootCodeSize], nil
}

// Place tells a disk's core image at which sector of the disk it begins: its first sector loads the others from there. It
// lies in one piece, so one entry of the list is enough.
func Place(core []byte, at uint64) error {
	if len(core) <= sector || binary.LittleEndian.Uint16(core[listSegment:]) != coreSegment {
		return fmt.Errorf("placing GRUB's core image: it does not begin with a block list")
	}
	want := (len(core) - 1) / sector // without the first, and a part of a sector is one
	if have := int(binary.LittleEndian.Uint16(core[listLength:])); have != want {
		return fmt.Errorf("placing GRUB's core image: its block list has %d sectors, it has %d", have, want)
	}
	binary.LittleEndian.PutUint64(core[listStart:], at+1)
	return nil
}
