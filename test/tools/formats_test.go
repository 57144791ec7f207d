//go:build tools

package tools_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// formats are the images that are built together, with the platform on the command line of each.
var formats = []struct{ image, platform string }{
	{"vm-disk", "qemu"}, {"metal-disk", "metal"}, {"cloud-aws", "aws"}, {"cloud-gce", "gcp"},
	{"cloud-qcow2", "openstack"}, {"cloud-vhd", "azure"}, {"cloud-vmdk", "vmware"},
}

// TestFormats builds every disk-shaped image in one go and lets other people's programs read them.
func TestFormats(t *testing.T) {
	b := build(t) // for the trees of tools; what the images share is made by then
	out := filepath.Join(b.repo, "out/test-formats")
	var names []string
	for _, f := range formats {
		names = append(names, f.image)
	}
	kiln(t, b.repo, nil, "build", strings.Join(names, ","), "--profile", "control-plane", "--release", "v1.36", "-o", out)
	for _, f := range formats {
		t.Run(f.image, func(t *testing.T) {
			one := b
			one.dir = filepath.Join(out, f.image)
			var err error
			one.Manifest, err = bake.ReadManifest(one.dir)
			must(t, err)
			if f.platform != "metal" && one.Parts["sealed"] != b.Parts["sealed"] {
				t.Errorf("the root is %s; want the one that all images with this kernel share, %s", one.Parts["sealed"], b.Parts["sealed"])
			}
			checkSums(t, one)
			disk := one.rawDisk(t)
			defer os.Remove(disk)
			checkDisk(t, one, disk, nodefs.ParamPlatform+"="+f.platform+" ")
		})
	}
}

// checkSums compares the files with the checksums beside them.
func checkSums(t *testing.T, b built) {
	text, err := os.ReadFile(filepath.Join(b.dir, bake.FileSums))
	must(t, err)
	for _, file := range b.Files {
		sum, err := parts.SHA256File(filepath.Join(b.dir, file.Name))
		must(t, err)
		if sum != file.SHA256 || !strings.Contains(string(text), sum+"  "+file.Name+"\n") {
			t.Errorf("%s has %s, the manifest says %s, the checksums\n%s", file.Name, sum, file.SHA256, text)
		}
	}
	if b.Files[0].Name != b.Disk() || b.Files[len(b.Files)-1].Name != bake.FileSBOM {
		t.Errorf("the files are %+v", b.Files)
	}
}

// rawDisk is the image's disk as a raw file, by the programs that its users have.
func (b built) rawDisk(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(b.dir, "raw-")
	must(t, err)
	t.Cleanup(func() { parts.RemoveAll(dir) })
	raw, disk := filepath.Join(dir, "disk.raw"), filepath.Join(b.dir, b.Disk())
	run := func(name string, args ...string) {
		if text, err := b.peer(t, name, args...); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text)
		}
	}
	image := func(format string) {
		run("qemu-img", "convert", "-f", format, "-O", "raw", disk, raw)
		run("qemu-img", "compare", "-f", format, "-F", "raw", disk, raw)
	}
	switch b.Disk() {
	case bake.FileDisk:
		run("cp", "--sparse=always", disk, raw)
		if _, err := os.Stat(filepath.Join(b.dir, bake.FileZstd)); err == nil {
			run("zstd", "-q", "-d", "-f", "--sparse", filepath.Join(b.dir, bake.FileZstd), "-o", raw)
			checkSame(t, disk, raw)
		}
	case bake.FileQCOW2:
		run("qemu-img", "check", disk)
		image("qcow2")
	case bake.FileVHD:
		image("vpc")
	case bake.FileVMDK:
		run("qemu-img", "check", disk)
		image("vmdk")
		run("tar", "-x", "-C", dir, "-f", filepath.Join(b.dir, bake.FileOVA))
		checkSame(t, disk, filepath.Join(dir, bake.FileVMDK))
		must(t, os.Remove(filepath.Join(dir, bake.FileVMDK)))
	case bake.FileGCE:
		archive := filepath.Join(dir, "disk.tar")
		gunzip(t, disk, archive)
		run("tar", "-x", "-S", "-C", dir, "-f", archive)
		must(t, os.Remove(archive))
	}
	var facts struct {
		Size int64 `json:"virtual-size"`
	}
	text, err := b.peer(t, "qemu-img", "info", "-f", "raw", "--output=json", raw)
	must(t, err)
	must(t, json.Unmarshal([]byte(text), &facts))
	if facts.Size%(1<<20) != 0 || facts.Size < b.Sizes["root"] {
		t.Errorf("the disk has %d bytes", facts.Size)
	}
	return raw
}

// gunzip uses the standard library, which is not what wrote the file.
func gunzip(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	zip, err := gzip.NewReader(in)
	must(t, err)
	out, err := os.Create(to)
	must(t, err)
	_, err = io.Copy(out, zip)
	must(t, err)
	must(t, out.Close())
}

func checkSame(t *testing.T, a, b string) {
	t.Helper()
	one, err := parts.SHA256File(a)
	must(t, err)
	other, err := parts.SHA256File(b)
	must(t, err)
	if one != other {
		t.Errorf("%s and %s differ", a, b)
	}
}

// checkDisk looks into a raw disk: its table, its EFI system partition with the platform's command line, its root.
func checkDisk(t *testing.T, b built, disk, want string) {
	if out, err := b.peer(t, "sgdisk", "-v", disk); err != nil || !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %v\n%s", err, out)
	}
	if out, err := b.peer(t, "sfdisk", "--verify", disk); err != nil {
		t.Errorf("sfdisk --verify: %v\n%s", err, out)
	}
	table := partitionTable(t, b, disk)
	checkTable(t, b, table)
	esp := cut(t, disk, table[nodefs.LabelESP])
	if out, err := b.peer(t, "fsck.fat", "-n", esp); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
	uki := filepath.Join(t.TempDir(), "kiln.efi")
	if out, err := b.peer(t, "mcopy", "-i", esp, "::/EFI/Linux/kiln-"+b.Version+".efi", uki); err != nil {
		t.Fatalf("mcopy: %v\n%s", err, out)
	}
	text, err := os.ReadFile(uki)
	must(t, err)
	if !bytes.Contains(text, []byte("roothash="+b.RootHash+" "+want)) {
		t.Errorf("the unified kernel image does not hold the command line with %s", want)
	}
	root, tree := cut(t, disk, table[nodefs.LabelRootA]), cut(t, disk, table[nodefs.LabelRootAVerity])
	if out, err := b.peer(t, "veritysetup", "verify", root, tree, b.RootHash); err != nil {
		t.Errorf("veritysetup verify: %v\n%s", err, out)
	}
}
