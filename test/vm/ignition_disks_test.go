//go:build machine

package vm_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
)

// emptyDisk is a disk of a gigabyte with nothing on it.
func emptyDisk(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 1<<30))
	return path
}

const dataDisk = "/dev/disk/by-id/virtio-data0"

// mount is a unit that mounts a filesystem below /var/lib.
func mount(name, device, kind string) object {
	return object{"name": "var-lib-" + name + ".mount", "enabled": true, "contents": `[Unit]
Before=local-fs.target
[Mount]
What=` + device + `
Where=/var/lib/` + name + `
Type=` + kind + `
[Install]
RequiredBy=local-fs.target
`}
}

// disks is a config that uses one disk for all there is: a partition with xfs, an array of two with ext4, and an encrypted one
// with btrfs.
func disks(add object, commands, want map[string]string) {
	partition := func(number, size int, label string) object {
		return object{"number": number, "label": label, "sizeMiB": size}
	}
	storage := add["storage"].(object)
	storage["disks"] = []any{object{"device": dataDisk, "wipeTable": true, "partitions": []any{
		partition(1, 350, "plain"), partition(2, 100, "half-a"), partition(3, 100, "half-b"), partition(4, 200, "secret")}}}
	label := "/dev/disk/by-partlabel/"
	storage["raid"] = []any{object{"name": "pair", "level": "raid1", "devices": []any{label + "half-a", label + "half-b"}}}
	storage["luks"] = []any{object{"name": "vault", "device": label + "secret", "options": []any{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}}}
	storage["filesystems"] = []any{
		object{"device": label + "plain", "format": "xfs", "path": "/var/lib/plain"},
		object{"device": "/dev/md/pair", "format": "ext4", "path": "/var/lib/pair"},
		object{"device": "/dev/mapper/vault", "format": "btrfs", "path": "/var/lib/vault"},
	}
	for name, kind := range map[string][2]string{
		"plain": {label + "plain", "xfs"}, "pair": {"/dev/md/pair", "ext4"}, "vault": {"/dev/mapper/vault", "btrfs"},
	} {
		addUnit(add, mount(name, kind[0], kind[1]))
		storage["files"] = append(storage["files"].([]any), object{"path": "/var/lib/" + name + "/file", "contents": dataURL("on " + name)})
		commands[name] = "findmnt -no FSTYPE /var/lib/" + name + "; cat /var/lib/" + name + "/file"
		want[name] = kind[1] + " on " + name
	}
}

// TestIgnition makes disks of all kinds, cuts the power in the middle, goes on, and finds everything again on a later boot.
func TestIgnition(t *testing.T) {
	w := newWorld(t)
	add, commands, want := plain()
	disks(add, commands, want)
	addUnit(add, proof("After=containerd.service local-fs.target", commands))
	options := vm.Options{Dir: w.place(t, "ignition-disks"), Ignition: withIgnition(t, w.identity(t, 6443), add), DataDisks: []string{emptyDisk(t, "data.img")}}
	for _, cut := range []struct{ what, pattern string }{
		{"the array is made", `ignition: creating "pair"`},
		{"the volume is made", `ignition: creating "vault"`},
		{"the filesystems are made", `ignition: creating "btrfs"`},
		{"the user is made", `ignition: creating or modifying user "ops"`},
	} {
		m := w.boot(t, options)
		expect(t, m, cut.what, cut.pattern, serviceTime)
		m.Kill()
	}
	m := w.boot(t, options)
	proves(t, m, want)
	m.Kill()

	m = w.boot(t, options)
	proves(t, m, want)
	mustNotHaveSaid(t, m, "Ignition runs again", `ignition: `)
	m.Kill()
}

// TestIgnitionThatCannotBeApplied: upstream's own report is on the console, and nothing else of the boot happens.
func TestIgnitionThatCannotBeApplied(t *testing.T) {
	w := newWorld(t)
	disk := w.filesystem(t, "OLD", map[string]string{})
	add := object{"storage": object{"filesystems": []any{object{"device": "/dev/disk/by-id/virtio-data0", "format": "xfs"}}}}
	m := w.boot(t, vm.Options{Dir: w.place(t, "ignition-refused"), Ignition: withIgnition(t, w.identity(t, 6443), add), DataDisks: []string{disk}})
	defer m.Kill()
	expect(t, m, "upstream's report", `filesystem at ".*virtio-data0" is not of the correct type, label, or UUID \(found ext4`, serviceTime)
	expect(t, m, "the end", `the boot stops here`, serviceTime)
	// What had been waiting for this unit would begin now.
	time.Sleep(20 * time.Second)
	mustNotHaveSaid(t, m, "firstboot runs", `^(identity|first-boot): `)
}
