// Package iso writes hybrid ISO images by xorriso: one file that a BIOS and UEFI firmware start both as a CD, which is also
// what virtual media look like, and as a disk, when it was copied to a USB stick.
package iso

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// Image is an ISO 9660 filesystem with Rock Ridge names and what makes it start.
type Image struct {
	Run command.Runner
	// Tools is the tree with xorriso.
	Tools rootfs.Tools
	// Volume is the filesystem's label: at most 32 of A-Z, 0-9 and _. See Volume.
	Volume string
	// Epoch is the time of everything in it.
	Epoch time.Time
	// DiskID is the GUID of the partition table that a USB disk has, in text form.
	DiskID string
	// Files maps slash-separated paths to host files.
	Files map[string]string
	// BIOSImage is the path within Files of GRUB's El Torito image, HybridMBR the host file with the code of a USB disk's
	// first sector.
	BIOSImage string
	HybridMBR string
	// EFIImage is the host file of the EFI system partition. It is outside the ISO's own tree and a partition of the USB disk.
	EFIImage string
}

// typeESP is the EFI system partition's type.
const typeESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

// Write makes the image in the file out and returns its SHA-256 in hex. Files of 4 GiB and more are whole: ISO 9660 level 3
// keeps them in several extents.
func (i Image) Write(ctx context.Context, out string) (string, error) {
	// What was there is not an image to go on from.
	if err := os.Remove(out); err != nil && !os.IsNotExist(err) {
		return "", err
	}
	var said strings.Builder
	c := i.Tools.Command("xorriso", i.arguments(out)...)
	c.Stdout, c.Stderr = &said, &said
	// Every time that is not named below is taken from here.
	c.Env = append(c.Env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", i.Epoch.Unix()), "TZ=UTC")
	if _, err := i.Run.Run(ctx, c); err != nil {
		return "", fmt.Errorf("writing the ISO image: %w", err)
	}
	return digest(out)
}

func (i Image) arguments(out string) []string {
	stamp := i.Epoch.UTC().Format("20060102150405") + "00" // hundredths
	args := []string{
		"-no_rc", "-report_about", "WARNING", "-return_with", "SORRY", "32",
		"-as", "mkisofs", "-iso-level", "3", "-r", "-V", i.Volume, "-o", out,
		"--modification-date=" + stamp, "--set_all_file_dates", stamp, "--gpt_disk_guid", i.DiskID,
		// The way of Debian and Ubuntu. The filesystem is also seen from its partition, which begins at the 16th block;
		// some BIOSes start only disks with an active partition.
		"--grub2-mbr", i.HybridMBR, "--protective-msdos-label", "-partition_cyl_align", "off", "-partition_offset", "16", "--mbr-force-bootable",
		"-append_partition", "2", typeESP, i.EFIImage, "-appended_part_as_gpt",
		"-c", "boot/boot.cat", "-b", i.BIOSImage, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
		"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
		"-graft-points",
	}
	for _, name := range slices.Sorted(maps.Keys(i.Files)) {
		args = append(args, escape(name)+"="+escape(i.Files[name]))
	}
	return args
}

// escape protects a name in a graft point, where = separates.
func escape(name string) string { return strings.NewReplacer(`\`, `\\`, "=", `\=`).Replace(name) }

// Volume makes a label of a name: what ISO 9660 does not know becomes _, and what is too long is cut.
func Volume(name string) string {
	label := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
	return label[:min(len(label), 32)]
}

func digest(path string) (string, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
