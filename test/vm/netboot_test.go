//go:build machine

package vm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// targetSize is the size of the disk that is installed: what metal images need, and some room.
const targetSize = 12 << 30

// What an installer says, and what the system says that it has installed.
const (
	saysIdentity  = `^identity: node-1, control-plane, from URL of kiln.identity`
	saysWriting   = `^install-disk: .*; writing it`
	saysInstalled = `^install: /dev/vd[ab] holds node-1; booting it`
	saysCarried   = `^identity: node-1, control-plane, from .*left by the installer`
)

// metalSet builds a live set for physical machines, whose systemd talks to the serial console instead of the screen, and
// returns the directory of its files.
func (w *world) metalSet(t *testing.T, image string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.repo, "images", image+".yaml"))
	must(t, err)
	const serial, screen = "- console=ttyS0,115200\n", "- console=tty0\n"
	text = bytes.Replace(text, []byte(serial), nil, 1)
	text = bytes.Replace(text, []byte(screen), []byte(screen+serial), 1)
	file := filepath.Join(t.TempDir(), image+".yaml")
	must(t, os.WriteFile(file, text, 0o644))
	out := w.build(t, file, filepath.Join(w.repo, "out/test-"+image))
	w.addKernel(t)
	return out
}

// blank makes an empty target disk in a machine's directory, which is gone when the test passes.
func blank(t *testing.T, dir string) string {
	t.Helper()
	target := filepath.Join(dir, "target.raw")
	must(t, os.WriteFile(target, nil, 0o644))
	must(t, os.Truncate(target, targetSize))
	t.Cleanup(func() { _ = os.Remove(target) })
	return target
}

// hasTable tells whether a disk has a partition table: without one, nothing boots from it.
func hasTable(t *testing.T, disk string) bool {
	t.Helper()
	file, err := os.Open(disk)
	must(t, err)
	defer file.Close()
	head := make([]byte, 520)
	_, err = io.ReadFull(file, head)
	must(t, err)
	return string(head[512:]) == "EFI PART"
}

// TestInstallOverHTTP lets UEFI boot the live system over HTTP on a machine with an empty disk. The power fails while the disk
// is being written; the next boot takes it up and starts what it has installed, with the identity that the live system got
// by URL; and when a BIOS boots the machine from the network after that, nothing is written any more.
func TestInstallOverHTTP(t *testing.T) {
	w := bareWorld(t)
	s := newSegment(t, w.metalSet(t, "metal-pxe"))
	arguments := s.identityOf(w, "node-1") + " " + nodefs.ParamInstall + "=serial:target"
	s.arguments(arguments)
	dir := w.place(t, "install-http")
	o := vm.Options{Dir: dir, Target: blank(t, dir), KernelArguments: arguments, Cable: vm.Cable{HTTP: true}}

	m := s.boot(w, o)
	expect(t, m, "the root over HTTP", `DHCP names http://`+segmentServer+`/kiln.efi`, liveTime)
	if !strings.Contains(s.requests(), "/kiln.efi") {
		t.Error("the firmware has loaded the live system by something else than HTTP")
	}
	expect(t, m, "systemd starts", switching, liveTime)
	expect(t, m, "the identity by URL", saysIdentity, serviceTime)
	if !strings.Contains(s.requests(), "GET /identity/"+segmentMAC) {
		t.Error("the identity was not asked for by the card's address")
	}
	expect(t, m, "the empty disk is written", saysWriting, serviceTime)
	time.Sleep(2 * time.Second)
	mustNotHaveSaid(t, m, "the disk is written before the power cut", `^install-write: .* s\)`)
	m.Kill()
	if hasTable(t, o.Target) {
		t.Error("a disk that is not whole has a partition table")
	}

	m = s.boot(w, o)
	expect(t, m, "the interrupted installation", `^install-disk: .*an installation of ours was interrupted there; writing it`, liveTime+serviceTime)
	expect(t, m, "the disk is installed", saysInstalled, serviceTime)
	expect(t, m, "the installed kernel starts", `Linux version`, serviceTime)
	expect(t, m, "the installed system's identity", saysCarried, serviceTime)
	m.Kill()

	written := len(s.requests())
	m = s.boot(w, vm.Options{Dir: dir, Target: o.Target, Firmware: vm.BIOS})
	expect(t, m, "iPXE starts the kernel", `Command line: .*kiln.root=http://`+segmentServer+`/root.img`, liveTime)
	expect(t, m, "the installed disk is known", `^install-disk: .*; (leaving it as it is|replacing the identity)`, liveTime+serviceTime)
	expect(t, m, "it is booted", saysInstalled, serviceTime)
	mustNotHaveSaid(t, m, "the disk is written again", `^install-write: `)
	m.Kill()
	if again := s.requests()[written:]; !strings.Contains(again, "/boot.ipxe") || strings.Contains(again, "esp.img.zst") {
		t.Errorf("the last boot asked for:\n%s", again)
	}
}

// liveTime is what firmware, the network, and a root that is checked as it arrives may take together.
const liveTime = 8 * time.Minute

// TestInstallRefusesData: a disk that holds something is named on the console and not touched, not in one byte.
func TestInstallRefusesData(t *testing.T) {
	w := bareWorld(t)
	s := newSegment(t, w.metalSet(t, "metal-pxe"))
	s.arguments(s.identityOf(w, "node-1") + " " + nodefs.ParamInstall + "=serial:target")
	dir := w.place(t, "install-refused")
	target := blank(t, dir)
	precious := w.filesystem(t, "precious", nil)
	w.run(t, command.Command{Name: "cp", Args: []string{"--sparse=always", precious, target}})
	must(t, os.Truncate(target, targetSize))
	before := digest(t, target)

	m := s.boot(w, vm.Options{Dir: dir, Target: target, Firmware: vm.BIOS})
	expect(t, m, "systemd starts", switching, liveTime)
	expect(t, m, "the identity by URL", saysIdentity, serviceTime)
	refused(t, m, "install: wipe: is not given, and the disk holds an ext filesystem", "kiln.install.wipe")
	m.Kill()
	if after := digest(t, target); after != before {
		t.Error("a disk that was refused has other bytes than before")
	}
}

// digest is the SHA-256 of what a sparse file holds and where: what was written into a hole counts, even zeros.
func digest(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	sum := sha256.New()
	for end := int64(0); ; {
		begin, err := file.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return fmt.Sprintf("%x", sum.Sum(nil))
		}
		must(t, err)
		end, err = file.Seek(begin, unix.SEEK_HOLE)
		must(t, err)
		fmt.Fprintf(sum, "%d-%d:", begin, end)
		_, err = io.Copy(sum, io.NewSectionReader(file, begin, end-begin))
		must(t, err)
	}
}
