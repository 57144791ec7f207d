package initramfs

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/internal/document"
)

// disk is a whole disk with what its partition table says.
type disk struct {
	name  string
	path  string
	table table
	// err says why the table could not be read.
	err error
	// devices holds the paths of the partitions' block devices by partition number, as far as the kernel made them.
	devices map[int]string
}

// blockDevices lists and opens disks.
type blockDevices struct {
	sys, dev string
}

// list reads the tables of all disks, in the order of their names.
func (b blockDevices) list() []disk {
	var list []disk
	names, _ := os.ReadDir(filepath.Join(b.sys, "block"))
	for _, name := range names {
		if disks.IsDisk(name.Name()) {
			if d, ok := b.read(name.Name()); ok {
				list = append(list, d)
			}
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].name < list[j].name })
	return list
}

// read reads one disk; false means that it is none, or has no medium.
func (b blockDevices) read(name string) (disk, bool) {
	dir := filepath.Join(b.sys, "block", name)
	// The size in sysfs is in units of 512 bytes, whatever the disk's sectors are.
	size, sector := readNumber(filepath.Join(dir, "size"))*512, readNumber(filepath.Join(dir, "queue/logical_block_size"))
	if size <= 0 || sector < 512 {
		return disk{}, false
	}
	d := disk{name: name, path: filepath.Join(b.dev, name), devices: b.partitions(dir)}
	file, err := os.Open(d.path)
	if err != nil {
		d.err = err
		d.table = table{sectorSize: sector, sectors: size / sector}
		return d, true
	}
	defer file.Close()
	d.table, d.err = readTable(file, sector, size)
	return d, true
}

// partitions maps partition numbers to the devices that the kernel made.
func (b blockDevices) partitions(dir string) map[int]string {
	devices := map[int]string{}
	files, _ := filepath.Glob(filepath.Join(dir, "*/partition"))
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "uevent"))
		if err != nil {
			continue
		}
		event := parseUevent(string(text))
		number, err := strconv.Atoi(event["PARTN"])
		if err == nil && event["DEVNAME"] != "" {
			devices[number] = filepath.Join(b.dev, event["DEVNAME"])
		}
	}
	return devices
}

// parseUevent reads the KEY=VALUE lines of a uevent file in sysfs.
func parseUevent(text string) map[string]string {
	event := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			event[key] = value
		}
	}
	return event
}

func readNumber(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// labelled finds the partition with a label.
func (d disk) labelled(label string) (entry, bool) {
	for _, e := range d.table.entries {
		if e.label == label {
			return e, true
		}
	}
	return entry{}, false
}

// withUUID finds a partition by its UUID, if the kernel has made its device.
func (d disk) withUUID(uuid string) (entry, bool) {
	for _, e := range d.table.entries {
		if e.uuid == uuid && d.devices[e.number] != "" {
			return e, true
		}
	}
	return entry{}, false
}

// describe renders the disk for a failure's report, one line for it and one for each partition.
func (d disk) describe() []string {
	head := fmt.Sprintf("%s, %s", d.path, document.Size(d.table.sectors*d.table.sectorSize))
	if d.err != nil {
		return []string{head + ": " + d.err.Error()}
	}
	lines := []string{fmt.Sprintf("%s, %s not used", head, document.Size(d.table.unused()))}
	for _, e := range d.table.entries {
		device := d.devices[e.number]
		if device == "" {
			device = fmt.Sprintf("partition %d, which has no device", e.number)
		}
		lines = append(lines, fmt.Sprintf("  %s %s PARTUUID=%s, %s", device, strconv.Quote(e.label), e.uuid, document.Size(d.table.bytes(e))))
	}
	return lines
}
