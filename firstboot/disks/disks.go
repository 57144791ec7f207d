// Package disks lists the machine's disks and picks one by rule: for the state of a live node, and for the installer.
// Nothing is ever chosen because it came first; a rule that fits no disk, or several, is an error that lists all of them.
package disks

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Disk is one whole disk. Text fields are empty when the disk does not tell.
type Disk struct {
	// Path is the kernel's device, as in /dev/sda.
	Path string
	// Links are further names of the device, as udev makes them below /dev/disk: sorted, none in the initramfs.
	Links []string
	// Serial, WWN and Model are as the disk gives them, without the spaces around.
	Serial, WWN, Model string
	// Size is in bytes.
	Size int64
	// Removable disks are USB sticks and the like.
	Removable bool
	// ReadOnly disks refuse to be written.
	ReadOnly bool
}

// noDisks are the beginnings of names of block devices that are no disks of the machine, or made from others.
func noDisks() []string {
	return []string{"loop", "ram", "zram", "dm-", "md", "fd", "sr", "nbd", "mtdblock", "rbd", "drbd"}
}

// IsDisk tells by its name in /sys/block whether a block device is a whole disk.
func IsDisk(name string) bool {
	isOther := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	// The boot areas of eMMC are devices of their own, and no place for anything of ours.
	return !slices.ContainsFunc(noDisks(), isOther) && !strings.Contains(name, "boot") && !strings.HasSuffix(name, "rpmb")
}

// List lists the disks with a medium, in the order of their names. Sys and dev are where sysfs and the devices are: /sys
// and /dev on a node. A disk that vanishes meanwhile is left out.
func List(sys, dev string) []Disk {
	links := readLinks(dev)
	names, _ := os.ReadDir(filepath.Join(sys, "block"))
	var list []Disk
	for _, name := range names {
		if d, ok := read(sys, dev, name.Name()); ok && IsDisk(name.Name()) {
			d.Links = links[d.Path]
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b Disk) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// read reads what sysfs knows about one disk.
func read(sys, dev, name string) (Disk, bool) {
	dir := filepath.Join(sys, "block", name)
	// The size is in units of 512 bytes, whatever the disk's sectors are (kernel documentation, ABI/stable/sysfs-block).
	sectors, err := strconv.ParseInt(readText(dir, "size"), 10, 64)
	if err != nil || sectors <= 0 {
		return Disk{}, false
	}
	return Disk{
		// In sysfs a slash of a name is written as an exclamation mark (cciss!c0d0).
		Path: filepath.Join(dev, strings.ReplaceAll(name, "!", "/")),
		Size: sectors * 512, Serial: serial(dir), WWN: readText(dir, "wwid", "device/wwid"), Model: model(dir),
		Removable: readText(dir, "removable") == "1" || usbDevice(dir) != "", ReadOnly: readText(dir, "ro") == "1",
	}, true
}

// serial asks virtio and NVMe, SCSI (by its vital product data, page 0x80: four bytes, then the text), eMMC, and what
// the disk hangs on when that is USB.
func serial(dir string) string {
	if text := readText(dir, "serial", "device/serial"); text != "" {
		return text
	}
	if page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80")); err == nil && len(page) > 4 {
		if text := printable(string(page[4:])); text != "" {
			return text
		}
	}
	if usb := usbDevice(dir); usb != "" {
		return readText(usb, "serial")
	}
	return ""
}

// model is the vendor and the model; vendors that only name the bus are left out.
func model(dir string) string {
	vendor, name := readText(dir, "device/vendor"), readText(dir, "device/model", "device/name")
	// virtio_blk has a vendor's number there, and no model.
	if vendor == "ATA" || vendor == "USB" || name == "" || strings.HasPrefix(vendor, "0x") {
		vendor = ""
	}
	return strings.TrimSpace(vendor + " " + name)
}

// usbDevice is the directory of the USB device above a disk, "" when there is none.
func usbDevice(dir string) string {
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return ""
	}
	for ; len(device) > 1 && filepath.Base(device) != "devices"; device = filepath.Dir(device) {
		if _, err := os.Stat(filepath.Join(device, "idVendor")); err == nil {
			return device
		}
	}
	return ""
}

// readText reads the first of the files below dir that is there and not empty.
func readText(dir string, files ...string) string {
	for _, file := range files {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			if text := printable(string(text)); text != "" {
				return text
			}
		}
	}
	return ""
}

// printable is text without what would spoil a console, runs of spaces made one: disks pad their fields with both.
func printable(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(clean), " ")
}

// readLinks maps devices to the names that udev gave them.
func readLinks(dev string) map[string][]string {
	links := map[string][]string{}
	names, _ := filepath.Glob(filepath.Join(dev, "disk/*/*"))
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(name), target)
			}
			links[target] = append(links[target], name)
		}
	}
	return links
}
