//go:build tools

package tools_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/install"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Budgets in bytes: a loader takes ten seconds and more for 100 MB.
const (
	mostInitramfsVM    = 20e6
	mostInitramfsMetal = 40e6
	mostUKI            = 60e6
)

// TestLiveForms builds the live images, signed, and lets other people's programs read them.
func TestLiveForms(t *testing.T) {
	b := build(t)
	if size := b.Sizes["initramfs"]; size > mostInitramfsVM {
		t.Errorf("a virtual machine's initramfs has %d bytes", size)
	}
	key, certificate := signingPair(t)
	out := filepath.Join(b.repo, "out/test-forms")
	kiln(t, b.repo, nil, "build", "metal-pxe,metal-iso", "--profile", "control-plane", "--release", "v1.36", "--sign", key+","+certificate, "-o", out)
	pxe, iso := b, b
	for image, into := range map[string]*built{"metal-pxe": &pxe, "metal-iso": &iso} {
		into.dir = filepath.Join(out, image)
		var err error
		into.Manifest, err = bake.ReadManifest(into.dir)
		must(t, err)
	}
	if pxe.Parts["boot"] != iso.Parts["boot"] {
		t.Errorf("the images do not share their boot files: %s and %s", pxe.Parts["boot"], iso.Parts["boot"])
	}
	t.Run("the live set is what install.json says", func(t *testing.T) { checkLiveSet(t, pxe, pxe.dir) })
	t.Run("the installer makes a disk of the live set", func(t *testing.T) { checkInstalled(t, pxe, pxe.dir) })
	t.Run("sbverify and ukify read the unified kernel image", func(t *testing.T) {
		checkSigned(t, pxe, filepath.Join(pxe.dir, bake.FileUKI), certificate, nodefs.ParamRoot+"="+nodefs.RootDHCP)
	})
	t.Run("the ISO image", func(t *testing.T) { checkISO(t, iso, certificate) })
	t.Run("nothing of the key is in the results or the cache", func(t *testing.T) { checkNoKey(t, b.cache, out, key) })
}

// checkLiveSet compares the files in a directory with what an installer will expect of them.
func checkLiveSet(t *testing.T, b built, dir string) {
	text, err := os.ReadFile(filepath.Join(dir, install.File))
	must(t, err)
	m, err := install.Parse(install.File, text)
	must(t, err)
	if m.RootHash != b.RootHash || !strings.Contains(b.CommandLine, nodefs.ParamInstallSHA256+"="+sum(t, filepath.Join(dir, install.File))) {
		t.Errorf("%s is not what the command line vouches for: %s", install.File, b.CommandLine)
	}
	esp := filepath.Join(t.TempDir(), "esp.img")
	if text, err := b.peer(t, "zstd", "-q", "-d", "--sparse", filepath.Join(dir, m.ESP.File), "-o", esp); err != nil {
		t.Fatalf("zstd: %v\n%s", err, text)
	}
	for path, blob := range map[string]install.Blob{
		esp: m.ESP, filepath.Join(dir, m.Root.File): m.Root, filepath.Join(dir, m.Verity.File): m.Verity,
		filepath.Join(dir, m.BIOS.File): *m.BIOS, filepath.Join(dir, m.BootCode.File): *m.BootCode,
	} {
		if info, err := os.Stat(path); err != nil || info.Size() != blob.Size || sum(t, path) != blob.SHA256 {
			t.Errorf("%s is not as the manifest has it: %+v", path, blob)
		}
	}
	if text, err := b.peer(t, "fsck.fat", "-n", esp); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, text)
	}
	root, tree := filepath.Join(dir, m.Root.File), filepath.Join(dir, m.Verity.File)
	if text, err := b.peer(t, "veritysetup", "verify", root, tree, m.RootHash); err != nil {
		t.Errorf("veritysetup: %v\n%s", err, text)
	}
	for name, most := range map[string]float64{bake.FileInitramfs: mostInitramfsMetal, bake.FileKernel: 20e6} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || float64(info.Size()) > most {
			t.Errorf("%s is missing or has more than %.0f bytes: %v", name, most, err)
		}
	}
}

// checkSigned lets sbverify decide about a program, about an altered copy of it, and about the wrong certificate.
func checkSigned(t *testing.T, b built, program, certificate, argument string) {
	if text, err := b.peer(t, "sbverify", "--cert", certificate, program); err != nil {
		t.Errorf("sbverify: %v\n%s", err, text)
	}
	_, other := signingPair(t)
	if text, err := b.peer(t, "sbverify", "--cert", other, program); err == nil {
		t.Errorf("sbverify takes another's certificate:\n%s", text)
	}
	info, err := os.Stat(program)
	must(t, err)
	if float64(info.Size()) > mostUKI {
		t.Errorf("%s has %d bytes", program, info.Size())
	}
	altered := cut(t, program, partition{Size: info.Size()})
	flip(t, altered, info.Size()/2)
	if text, err := b.peer(t, "sbverify", "--cert", certificate, altered); err == nil {
		t.Errorf("sbverify takes an altered program:\n%s", text)
	}
	// ukify is a script; Python looks for its modules where it was installed.
	c := b.tools.Command("python3", b.tools.Path("usr/bin/ukify"), "inspect", program)
	c.Env = append(c.Env, "PYTHONHOME="+b.tools.Path("usr"), "PYTHONDONTWRITEBYTECODE=1")
	text, err := command.Output(t.Context(), command.Exec{}, c)
	for _, want := range []string{".linux:", ".initrd:", ".sbat:", argument} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("ukify inspect does not show %s (%v):\n%s", want, err, text)
		}
	}
}

// checkISO looks at the ISO image as firmware does that takes it for a CD, and as a disk.
func checkISO(t *testing.T, b built, certificate string) {
	iso := filepath.Join(b.dir, bake.FileISO)
	text, err := b.peer(t, "xorriso", "-indev", iso, "-report_el_torito", "plain", "-report_system_area", "plain", "-pvd_info")
	for _, want := range []string{
		"El Torito boot img :   1  BIOS  y   none", "El Torito boot img :   2  UEFI  y   none", "boot-info-table grub2-boot-info",
		"MBR protective-msdos-label grub2-mbr cyl-align-off GPT", "Volume Id    : KILN_V1_36", "28732ac11ff8d211ba4b00a0c93ec93b",
	} {
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("xorriso does not report %q (%v):\n%s", want, err, text)
		}
	}
	if out, err := b.peer(t, "sgdisk", "-v", iso); err != nil || !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %v\n%s", err, out)
	}
	if out, err := b.peer(t, "sfdisk", "--verify", iso); err != nil {
		t.Errorf("sfdisk --verify: %v\n%s", err, out)
	}
	esp := cut(t, iso, partitionTable(t, b, iso)["Appended2"])
	if out, err := b.peer(t, "fsck.fat", "-n", esp); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
	program := filepath.Join(t.TempDir(), "bootx64.efi")
	if out, err := b.peer(t, "mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", program); err != nil {
		t.Fatalf("mcopy: %v\n%s", err, out)
	}
	checkSigned(t, b, program, certificate, nodefs.ParamRoot+"="+nodefs.RootMedium)
	live := filepath.Join(t.TempDir(), "live")
	if out, err := b.peer(t, "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/"+nodefs.LiveDir, live); err != nil {
		t.Fatalf("xorriso -extract: %v\n%s", err, out)
	}
	t.Cleanup(func() { // as in the image, directories are read-only
		_ = os.Chmod(live, 0o755)
	})
	checkLiveSet(t, b, live)
}

// checkNoKey looks for the key in every small file and in the names of the parts.
func checkNoKey(t *testing.T, cache, out, keyFile string) {
	text, err := os.ReadFile(keyFile)
	must(t, err)
	block, _ := pem.Decode(text)
	needle := string(block.Bytes[len(block.Bytes)/2:][:64])
	line := strings.Split(string(text), "\n")[3]
	must(t, filepath.WalkDir(out, func(path string, entry os.DirEntry, err error) error {
		return lookFor(t, path, entry, err, needle, line)
	}))
	live, err := filepath.Glob(filepath.Join(cache, "parts", "live-*"))
	must(t, err)
	if len(live) == 0 {
		t.Error("the cache has no live part")
	}
	for _, dir := range live {
		must(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			return lookFor(t, path, entry, err, needle, line)
		}))
	}
}

func lookFor(t *testing.T, path string, entry os.DirEntry, err error, needles ...string) error {
	if err != nil || entry.IsDir() {
		return err
	}
	info, err := entry.Info()
	if err != nil || info.Size() > 100<<20 {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	for _, needle := range needles {
		if strings.Contains(string(text), needle) {
			t.Errorf("%s holds the private key", path)
		}
	}
	return err
}

func sum(t *testing.T, path string) string {
	t.Helper()
	text, err := parts.SHA256File(path)
	must(t, err)
	return text
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
