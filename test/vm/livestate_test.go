//go:build machine && full

package vm_test

import (
	"os"
	"testing"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// TestLiveCache keeps the root, which came over https, on the disk of the state: the next boot fetches nothing. A byte of the
// cache that has changed since is seen before it is used, and the root is fetched again.
func TestLiveCache(t *testing.T) {
	w := newWorld(t)
	dir := w.place(t, "live-cache")
	disk := blank(t, dir)
	server := &imageServer{wrong: -1, cut: -1, https: true}
	boot := func() *vm.Running {
		server.ranges = nil
		return w.live(t, server, vm.Options{Dir: dir, DataDisks: []string{disk}, Append: "kiln.state=serial:data0"})
	}
	fetched := func(want bool) {
		t.Helper()
		if got := len(server.ranges) > 0; got != want {
			t.Errorf("root.img was asked for with the ranges %q; want any: %v", server.ranges, want)
		}
	}

	m := boot()
	expect(t, m, "no cache", `find-cache +[0-9.]+ s +none on /dev/vd`, kernelTime)
	expect(t, m, "the fetch", `fetch-root +[0-9.]+ s .* every block checked`, kernelTime)
	expect(t, m, "the cache", `kiln: state: writing the root's cache, /dev/vd`, kernelTime)
	expect(t, m, "systemd starts", switching, kernelTime)
	m.Kill()
	fetched(true)

	m = boot()
	expect(t, m, "the cache", `find-cache +[0-9.]+ s .* every block checked: nothing is fetched`, kernelTime)
	expect(t, m, "systemd starts", switching, kernelTime)
	m.Kill()
	fetched(false)

	turnByte(t, disk, partitionStart(t, disk, nodefs.LabelRootCache)+300<<20)
	m = boot()
	expect(t, m, "the damage", `find-cache +[0-9.]+ s .* has another root, or half of one: block [0-9]+`, kernelTime)
	expect(t, m, "the cache is written again", `kiln: state: writing the root's cache, /dev/vd`, kernelTime)
	expect(t, m, "systemd starts", switching, kernelTime)
	m.Kill()
	fetched(true)
}

// turnByte changes one bit of a disk.
func turnByte(t *testing.T, disk string, at int64) {
	t.Helper()
	file, err := os.OpenFile(disk, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	one := make([]byte, 1)
	_, err = file.ReadAt(one, at)
	must(t, err)
	one[0] ^= 1
	_, err = file.WriteAt(one, at)
	must(t, err)
}
