package initramfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

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

// noDisks are block devices that never hold the system.
var noDisks = []string{"loop", "ram", "zram", "dm-", "md", "fd", "sr", "nbd"}

// list reads the tables of all disks, in the order of their names.
func (b blockDevices) list() []disk {
	var disks []disk
	names, _ := os.ReadDir(filepath.Join(b.sys, "block"))
	for _, name := range names {
		if isDisk(name.Name()) {
			if d, ok := b.read(name.Name()); ok {
				disks = append(disks, d)
			}
		}
	}
	sort.Slice(disks, func(i, j int) bool { return disks[i].name < disks[j].name })
	return disks
}

func isDisk(name string) bool {
	for _, prefix := range noDisks {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
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

// rootUUIDs derives the PARTUUIDs of the root's data and hash partitions: the first and the last 16 bytes of the root
// hash (Discoverable Partitions Specification).
func rootUUIDs(hash []byte) (data, tree string, err error) {
	if len(hash) < 32 {
		return "", "", errors.New("root hash: shorter than 32 bytes")
	}
	return plainUUID(hash[:16]), plainUUID(hash[len(hash)-16:]), nil
}

func plainUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// root is where the root's two partitions are.
type root struct {
	disk       disk
	data, tree entry
	// others names further disks that carry the same root.
	others []string
}

func (r root) dataPath() string { return r.disk.devices[r.data.number] }
func (r root) treePath() string { return r.disk.devices[r.tree.number] }

// findRoot looks for a disk that has both partitions of the root with that hash. The first by name is taken.
func findRoot(disks []disk, hash []byte) (root, bool) {
	data, tree, err := rootUUIDs(hash)
	if err != nil {
		return root{}, false
	}
	var found root
	for _, d := range disks {
		dataEntry, hasData := d.withUUID(data)
		treeEntry, hasTree := d.withUUID(tree)
		switch {
		case !hasData || !hasTree:
		case found.disk.name == "":
			found = root{disk: d, data: dataEntry, tree: treeEntry}
		default:
			found.others = append(found.others, d.path)
		}
	}
	return found, found.disk.name != ""
}
