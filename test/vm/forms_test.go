//go:build machine

package vm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// firmwareTime is what firmware, loader and initramfs may take together.
const firmwareTime = 3 * time.Minute

// switching is the initramfs's last line: the root is found, verified and mounted, and the state writable.
const switching = `kiln: switching to /usr/lib/systemd/systemd`

// TestBIOS boots the disk of the other tests by SeaBIOS and GRUB.
func TestBIOS(t *testing.T) {
	w := newWorld(t)
	m := w.boot(t, vm.Options{Dir: w.place(t, "bios"), Firmware: vm.BIOS})
	expect(t, m, "GRUB starts the image's version", `Starting kiln `+w.Version, firmwareTime)
	expect(t, m, "systemd starts", switching, firmwareTime)
}

// TestMedium boots a live ISO in the four ways that there are, with its root straight from the medium.
func TestMedium(t *testing.T) {
	w := newWorld(t)
	out := filepath.Join(w.repo, "out/test-iso")
	w.kiln(t, "build", "metal-iso", "--profile", "worker", "--release", testedRelease, "-o", out)
	for name, o := range map[string]vm.Options{
		"cd-bios": {Firmware: vm.BIOS}, "usb-bios": {Firmware: vm.BIOS, MediumUSB: true}, "cd-uefi": {}, "usb-uefi": {MediumUSB: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Dir, o.Medium = w.place(t, "medium-"+name), filepath.Join(out, bake.FileISO)
			m := w.boot(t, o)
			expect(t, m, "systemd starts", switching, firmwareTime)
			m.Kill()
		})
	}
}

// TestNetworkBoot starts iPXE's script from an HTTP server, which has nothing but a copied directory. The server is
// busybox's httpd, one process for each connection.
func TestNetworkBoot(t *testing.T) {
	w := newWorld(t)
	out := filepath.Join(w.repo, "out/test-pxe")
	w.kiln(t, "build", "metal-pxe", "--profile", "worker", "--release", testedRelease, "-o", out)
	busybox := filepath.Join(w.kiln(t, "cache", "tools", "build"), "usr/bin/busybox")
	m := w.boot(t, vm.Options{
		Dir: w.place(t, "network-bios"), Firmware: vm.BIOS,
		BootFile: "http://" + vm.Served + "/" + bake.FileIPXE, Server: busybox + " httpd -i -h " + out,
	})
	// iPXE itself writes to the screen only; what it has made of the script's own address is on the kernel's command line.
	expect(t, m, "iPXE knows where its script came from", `Command line: .* kiln\.root=http://10\.0\.2\.100(:80)?/root\.img `, firmwareTime)
	expect(t, m, "systemd starts", switching, firmwareTime)
}

// TestSecureBoot lets firmware in setup mode take the build's key, and shows it then what that key has signed, what was
// altered since, and what nobody signed.
func TestSecureBoot(t *testing.T) {
	w := newWorld(t)
	out := filepath.Join(w.repo, "out/test-signed")
	key, certificate := signingPair(t)
	w.kiln(t, "build", "vm-disk", "--profile", "control-plane", "--release", testedRelease, "--sign", key+","+certificate, "-o", out)
	signed := filepath.Join(out, bake.FileDisk)

	trusting := w.place(t, "secure-signed")
	m := w.boot(t, vm.Options{Dir: trusting, Firmware: vm.SecureBoot, Disk: signed})
	expect(t, m, "systemd-boot enrols the key", `Custom Secure Boot keys successfully enrolled`, firmwareTime)
	expect(t, m, "the kernel knows of it", `secureboot: Secure boot enabled`, firmwareTime)
	expect(t, m, "systemd starts", switching, firmwareTime)
	m.Kill()
	variables, err := os.ReadFile(filepath.Join(trusting, "firmware-vars.fd"))
	must(t, err)

	for name, disk := range map[string]string{"altered": w.altered(t, signed), "unsigned": filepath.Join(w.image, bake.FileDisk)} {
		t.Run(name, func(t *testing.T) {
			dir := w.place(t, "secure-"+name)
			must(t, os.WriteFile(filepath.Join(dir, "firmware-vars.fd"), variables, 0o644))
			m := w.boot(t, vm.Options{Dir: dir, Firmware: vm.SecureBoot, Disk: disk})
			expect(t, m, "it is denied", `[Ff]ailed to .*: (Access Denied|Security Violation)`, firmwareTime)
			mustNotHaveSaid(t, m, "the kernel started", `Linux version`)
			m.Kill()
		})
	}
}

// signingPair makes a key and its certificate, as a user does with openssl.
func signingPair(t *testing.T) (keyFile, certificateFile string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kiln test"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	keyFile, certificateFile = filepath.Join(t.TempDir(), "db.key"), filepath.Join(t.TempDir(), "db.crt")
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	must(t, os.WriteFile(certificateFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o644))
	return keyFile, certificateFile
}

// altered is a copy of a disk with another kernel argument in its unified kernel image: one bit.
func (w world) altered(t *testing.T, disk string) string {
	t.Helper()
	out := filepath.Join(w.place(t, "secure-disk"), "altered.raw")
	w.run(t, command.Command{Name: "cp", Args: []string{"--sparse=always", disk, out}})
	t.Cleanup(func() { _ = os.Remove(out) })
	file, err := os.OpenFile(out, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	// The EFI system partition lies at the disk's begin.
	head, err := io.ReadAll(io.LimitReader(file, 256<<20))
	must(t, err)
	// In GRUB's menu each argument is quoted.
	at := bytes.Index(head, []byte(" audit=0 "))
	if at < 0 || bytes.Contains(head[at+1:], []byte(" audit=0 ")) {
		t.Fatal("the command line is not in the EFI system partition once")
	}
	_, err = file.WriteAt([]byte("1"), int64(at+len(" audit=")))
	must(t, err)
	return out
}
