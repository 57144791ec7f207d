package bake

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/kiln-os/kiln/builder/bios"
	"github.com/kiln-os/kiln/builder/output"
	"github.com/kiln-os/kiln/builder/plan"
)

// Files of the boot part that a BIOS starts, and their names in a live set.
const (
	fileBIOS     = "bios.img"
	fileBootCode = "bootcode.img"
)

// grub makes GRUB's images.
func (b *build) grub(ctx context.Context) (bios.GRUB, error) {
	b.Early.wait(ctx, errandMedium)
	tools, err := b.Debian.MediumTools(ctx)
	return bios.GRUB{Run: b.Run, Tools: tools}, err
}

// addBIOS makes what a BIOS starts from the disk in the boot part's directory, and returns what it reads from the EFI system
// partition, by path: the kernel, the initramfs and GRUB's menu. The first two have the version in their path, so that an
// update adds its own before it replaces the menu.
func (b *build) addBIOS(ctx context.Context, dir string) (map[string]string, error) {
	grub, err := b.grub(ctx)
	if err != nil {
		return nil, err
	}
	number, at, err := b.biosPlace()
	if err != nil {
		return nil, err
	}
	core := filepath.Join(dir, fileBIOS)
	if err := grub.Disk(ctx, number, core); err != nil {
		return nil, err
	}
	image, err := os.ReadFile(core)
	if err != nil {
		return nil, err
	}
	if err := bios.Place(image, at); err != nil {
		return nil, err
	}
	// Whole sectors are what a BIOS reads and an installer writes.
	image = append(image, make([]byte, (output.Sector-len(image)%output.Sector)%output.Sector)...)
	code, err := grub.BootCode(at)
	if err != nil {
		return nil, err
	}
	place := path.Join("kiln", b.version)
	menu := bios.Menu([]bios.Entry{{
		Title: "kiln " + b.version, Kernel: path.Join("/", place, "vmlinuz"), Initramfs: path.Join("/", place, "initramfs"),
		CommandLine: b.Plan.CommandLine(b.rootHash),
	}})
	for name, content := range map[string][]byte{fileBIOS: image, fileBootCode: code, fileMenu: []byte(menu)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return nil, err
		}
	}
	return map[string]string{
		path.Join(place, "vmlinuz"): b.kernel.Image(), path.Join(place, "initramfs"): filepath.Join(dir, fileInitramfs),
		path.Join(bios.DirDisk, fileMenu): filepath.Join(dir, fileMenu),
	}, nil
}

// fileMenu is the name of GRUB's menu.
const fileMenu = "grub.cfg"

// biosPlace is the number of the EFI system partition, counted from 1, and the sector at which the partition of GRUB's core
// image begins.
func (b *build) biosPlace() (esp int, core uint64, err error) {
	for i, p := range b.Plan.Layout().Partitions {
		switch p.Content {
		case plan.ContentESP:
			esp = i + 1
		case plan.ContentBIOS:
			core = uint64(p.Offset / output.Sector)
		}
	}
	if esp == 0 || core == 0 {
		return 0, 0, fmt.Errorf("placing what a BIOS starts: the layout has no partition for it")
	}
	return esp, core, nil
}
