package bake

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/install"
)

// liveBuild is a build of a live image whose parts before the live one are there, small.
func liveBuild(t *testing.T, format string) *build {
	t.Helper()
	dir := t.TempDir()
	b := &build{
		Options: Options{Out: filepath.Join(dir, "out"), Plan: plan.Plan{Image: plan.Image{
			Name: "metal-" + format, Format: format, Firmware: []string{"uefi", "bios"},
			Disk: plan.Disk{ESP: 64 * document.MiB, Root: 64 * document.MiB, Verity: document.MiB, StateMinimum: document.GiB},
		}}},
		rootHash: strings.Repeat("0123456789abcdef", 2) + strings.Repeat("fedcba9876543210", 2), version: "v1-2",
		boot: parts.Part{Name: "boot", Dir: filepath.Join(dir, "boot")}, sealed: parts.Part{Name: "sealed", Dir: filepath.Join(dir, "sealed")},
		live: parts.Part{Name: "live", Dir: filepath.Join(dir, "live")},
	}
	for part, names := range map[parts.Part][]string{b.boot: {fileESP, fileBIOS, fileBootCode, fileInitramfs}, b.sealed: {fileRoot, fileVerity}, b.live: {"none"}} {
		for _, name := range names {
			put(t, part.Path(name), strings.Repeat(name, 20))
		}
	}
	return b
}

func TestDescribeInstall(t *testing.T) {
	b := liveBuild(t, plan.FormatPXE)
	must(t, b.describeInstall(b.live.Dir))
	text, err := os.ReadFile(b.live.Path(install.File))
	must(t, err)
	m, err := install.Parse(install.File, text)
	must(t, err)
	for content, file := range map[string]struct{ name, host string }{
		install.ContentESP: {"esp.img.zst", b.boot.Path(fileESP)}, install.ContentRoot: {"root.img", b.sealed.Path(fileRoot)},
		install.ContentVerity: {"root.verity", b.sealed.Path(fileVerity)}, install.ContentBIOS: {"bios.img", b.boot.Path(fileBIOS)},
	} {
		raw, err := os.ReadFile(file.host)
		must(t, err)
		sum := sha256.Sum256(raw)
		blob, ok := m.Blob(content)
		if want := (install.Blob{File: file.name, Size: int64(len(raw)), SHA256: hex.EncodeToString(sum[:])}); !ok || blob != want {
			t.Errorf("%s is %+v; want %+v", content, blob, want)
		}
		if _, ok := m.Disk.With(content); !ok {
			t.Errorf("no partition takes %s", content)
		}
	}
	if m.BootCode == nil || m.BootCode.File != fileBootCode {
		t.Errorf("the boot code is %+v", m.BootCode)
	}
	if layout := b.Plan.Layout(); m.Disk.Size != int64(layout.MinimumDisk()) || len(m.Disk.Partitions) != len(layout.Partitions) {
		t.Errorf("the disk is %+v", m.Disk)
	}
	packed, err := os.ReadFile(b.live.Path(fileESPZstd))
	must(t, err)
	reader, err := zstd.NewReader(nil)
	must(t, err)
	defer reader.Close()
	unpacked, err := reader.DecodeAll(packed, nil)
	must(t, err)
	if want, err := os.ReadFile(b.boot.Path(fileESP)); err != nil || !bytes.Equal(unpacked, want) {
		t.Errorf("the EFI system partition does not unpack to what it was: %v", err)
	}
}

func TestIPXE(t *testing.T) {
	got := ipxe("v1-2", "roothash=ab kiln.root="+ipxeRoot+" kiln.install.sha256=cd")
	want := `#!ipxe
# kiln v1-2, live. Serve the directory of this file by HTTP and chain it. A script that chains it may set
#   kiln-args  further kernel arguments, as in: set kiln-args ip=dhcp kiln.identity=http://10.0.0.1/identity.yaml
#   kiln-url   the directory with the other files, ending in /, when this one comes from elsewhere (by TFTP, say)
isset ${kiln-url} || set kiln-url ${cwduri}
echo Starting kiln v1-2 from ${kiln-url}
kernel ${kiln-url}vmlinuz initrd=initramfs roothash=ab kiln.root=${kiln-url}root.img kiln.install.sha256=cd ${kiln-args} || goto failed
initrd --name initramfs ${kiln-url}initramfs || goto failed
boot || goto failed
:failed
echo kiln could not be started from ${kiln-url}; starting again in a minute
sleep 60
reboot
`
	if got != want {
		t.Errorf("script is\n%s\nwant\n%s", got, want)
	}
}

// A live image's own unified kernel image knows where its root is, and what it may install.
func TestCommandLines(t *testing.T) {
	for format, root := range map[string]string{plan.FormatPXE: " kiln.root=dhcp", plan.FormatISO: " kiln.root=medium", plan.FormatDisk: ""} {
		b := liveBuild(t, format)
		b.installSum = "cd"
		want := b.Plan.CommandLine(b.rootHash)
		if root != "" {
			want += root + " kiln.install.sha256=cd"
		}
		if got := b.commandLine(); got != want {
			t.Errorf("%s: %s; want %s", format, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
