//go:build machine && full

package vm_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// TestMetalDisk boots the disk for physical machines by both kinds of firmware.
func TestMetalDisk(t *testing.T) {
	w := bareWorld(t)
	out := w.build(t, "metal-disk", filepath.Join(w.repo, "out/test-metal-disk"))
	w.addKernel(t)
	for _, firmware := range []vm.Firmware{vm.UEFI, vm.BIOS} {
		t.Run(string(firmware), func(t *testing.T) {
			m := w.boot(t, vm.Options{Dir: w.place(t, "metal-"+string(firmware)), Firmware: firmware, Disk: filepath.Join(out, bake.FileDisk)})
			expect(t, m, "systemd starts", switching, firmwareTime)
			m.Kill()
		})
	}
}

// TestInstallFromMedium installs from a CD without any network, with an identity on another medium, and starts what it has
// installed without both.
func TestInstallFromMedium(t *testing.T) {
	w := bareWorld(t)
	out := w.metalSet(t, "metal-iso")
	dir := w.place(t, "install-medium")
	o := vm.Options{
		Dir: dir, Medium: filepath.Join(out, bake.FileISO), Target: blank(t, dir),
		KernelArguments: nodefs.ParamInstall + "=serial:target",
		ExtraDisks:      []string{w.filesystem(t, "KILN", map[string]string{"config.ign": filepath.Join(w.identity(t, 6443), "config.ign")})},
	}
	m := w.boot(t, o)
	expect(t, m, "systemd starts", switching, liveTime)
	expect(t, m, "the empty disk is written", saysWriting, serviceTime)
	expect(t, m, "the disk is installed", saysInstalled, serviceTime)
	m.Kill()
	o.Medium, o.ExtraDisks = "", nil
	m = w.boot(t, o)
	expect(t, m, "the installed system starts by itself", switching, liveTime)
	expect(t, m, "its identity", saysCarried, serviceTime)
	m.Kill()
	o.Firmware = vm.BIOS
	m = w.boot(t, o)
	expect(t, m, "a BIOS starts it, too", `Starting kiln`, firmwareTime)
	expect(t, m, "systemd starts", switching, firmwareTime)
	m.Kill()
}

// TestIPXEOnUEFI lets UEFI load iPXE by PXE, and iPXE the live system.
func TestIPXEOnUEFI(t *testing.T) {
	w := bareWorld(t)
	s := newSegment(t, w.metalSet(t, "metal-pxe"))
	s.arguments(s.identityOf(w, "node-1"))
	// What PXE is told to load.
	file := filepath.Join(s.dir, "kiln.efi")
	must(t, os.Remove(file))
	must(t, os.Symlink(w.peers.Path("usr/lib/ipxe/ipxe.efi"), file))
	m := s.boot(w, vm.Options{Dir: w.place(t, "ipxe-uefi")})
	expect(t, m, "iPXE starts the kernel", `Command line: .*kiln.root=http://`+segmentServer+`/root.img`, liveTime)
	expect(t, m, "systemd starts", switching, liveTime)
	expect(t, m, "the identity by URL", saysIdentity, serviceTime)
	m.Kill()
}

// TestInstalledNodeIsReady lets UEFI load the live system by PXE; it installs the machine, which becomes a node. From then on
// booting it from the network leaves the node as it is.
func TestInstalledNodeIsReady(t *testing.T) {
	w := bareWorld(t)
	s := newSegment(t, w.metalSet(t, "metal-pxe"))
	dir := w.place(t, "install-pxe")
	o := vm.Options{Dir: dir, Target: blank(t, dir), KernelArguments: s.identityOf(w, "node-1") + " " + nodefs.ParamInstall + "=serial:target"}
	m := s.boot(w, o)
	expect(t, m, "the disk is installed", saysInstalled, liveTime+2*serviceTime)
	begin := time.Now()
	name, err := m.Console().Ready(t.Context(), firstBootTime, vm.Watch{Say: func(at time.Duration, text string) {
		t.Logf("%7s  %s", vm.Clock(at), text)
	}, Quiet: time.Minute})
	must(t, err)
	t.Logf("%s is Ready after %s", name, vm.Clock(time.Since(begin)))
	m.Kill()

	s.arguments(o.KernelArguments)
	m = s.boot(w, vm.Options{Dir: dir, Target: o.Target, Firmware: vm.BIOS})
	expect(t, m, "the node is left as it is", `^install-disk: .*it is the node's, .*leaving it as it is`, liveTime+serviceTime)
	expect(t, m, "it is booted", saysInstalled, serviceTime)
	m.Kill()
}
