package seal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"

	"github.com/kiln-os/kiln/internal/document"
)

// testRoot lays out usr/lib/modules/6.0-test as Debian's kernel packages and depmod do.
func testRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "usr/lib/modules/6.0-test")
	files := map[string]string{
		"modules.builtin": "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n",
		"modules.alias": `# Aliases extracted from modules themselves.
alias virtio:d00000002v* virtio_blk
alias fs-squashfs squashfs
alias devname:loop-control loop
alias crc32c crc32c_intel
alias cpu:type:x86,*feature:*0094* crc32c_intel
alias pci:v*bc02* e1000
`,
		"modules.softdep": "# Soft dependencies\nsoftdep libcrc32c pre: crc32c missing post: e1000\n",
	}
	for _, line := range []string{
		"kernel/drivers/block/virtio_blk.ko.xz:",
		"kernel/drivers/block/loop.ko.xz:",
		"kernel/drivers/net/e1000.ko.xz:",
		"kernel/drivers/md/dm-verity.ko.xz: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko.xz",
		"kernel/drivers/md/dm-bufio.ko.xz: kernel/drivers/md/dm-mod.ko.xz",
		"kernel/drivers/md/dm-mod.ko.xz:",
		"kernel/fs/squashfs/squashfs.ko.xz:",
		"kernel/fs/overlayfs/overlay.ko:",
		"kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz",
		"kernel/lib/libcrc32c.ko.xz:",
		"kernel/arch/x86/crypto/crc32c-intel.ko.zst:",
	} {
		file, _, _ := strings.Cut(line, ":")
		files["modules.dep"] += line + "\n"
		files[file] = packed(t, file)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "firstboot"), []byte("\x7fELF init"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// packed is "module NAME", packed as the file's suffix says.
func packed(t *testing.T, file string) string {
	t.Helper()
	text := "module " + moduleName(file)
	var out bytes.Buffer
	var writer io.WriteCloser
	var err error
	switch filepath.Ext(file) {
	case ".xz":
		writer, err = xz.NewWriter(&out)
	case ".zst":
		writer, err = zstd.NewWriter(&out)
	default:
		return text
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(writer, text); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// listArchive renders an initramfs as one line for each file: mode, name, and the text of small files.
func listArchive(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(decoder)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, r := range records {
		text := make([]byte, r.FileSize)
		if _, err := r.ReadAt(text, 0); err != nil && r.FileSize > 0 {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%o %s %d:%d %q\n", r.Mode, r.Name, r.Rmajor, r.Rminor, text)
	}
	return out.String()
}

const wantArchive = `40755 dev 0:0 ""
20600 dev/console 5:1 ""
100755 init 0:0 "\x7fELF init"
40755 proc 0:0 ""
40755 run 0:0 ""
40755 sys 0:0 ""
40755 sysroot 0:0 ""
40755 usr 0:0 ""
40755 usr/lib 0:0 ""
40755 usr/lib/modules 0:0 ""
40755 usr/lib/modules/6.0-test 0:0 ""
40755 usr/lib/modules/6.0-test/kernel 0:0 ""
40755 usr/lib/modules/6.0-test/kernel/arch 0:0 ""
40755 usr/lib/modules/6.0-test/kernel/arch/x86 0:0 ""
40755 usr/lib/modules/6.0-test/kernel/arch/x86/crypto 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/arch/x86/crypto/crc32c-intel.ko 0:0 "module crc32c_intel"
40755 usr/lib/modules/6.0-test/kernel/drivers 0:0 ""
40755 usr/lib/modules/6.0-test/kernel/drivers/block 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/drivers/block/loop.ko 0:0 "module loop"
100644 usr/lib/modules/6.0-test/kernel/drivers/block/virtio_blk.ko 0:0 "module virtio_blk"
40755 usr/lib/modules/6.0-test/kernel/drivers/md 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/drivers/md/dm-bufio.ko 0:0 "module dm_bufio"
100644 usr/lib/modules/6.0-test/kernel/drivers/md/dm-mod.ko 0:0 "module dm_mod"
100644 usr/lib/modules/6.0-test/kernel/drivers/md/dm-verity.ko 0:0 "module dm_verity"
40755 usr/lib/modules/6.0-test/kernel/fs 0:0 ""
40755 usr/lib/modules/6.0-test/kernel/fs/overlayfs 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/fs/overlayfs/overlay.ko 0:0 "module overlay"
40755 usr/lib/modules/6.0-test/kernel/fs/squashfs 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/fs/squashfs/squashfs.ko 0:0 "module squashfs"
40755 usr/lib/modules/6.0-test/kernel/fs/xfs 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/fs/xfs/xfs.ko 0:0 "module xfs"
40755 usr/lib/modules/6.0-test/kernel/lib 0:0 ""
100644 usr/lib/modules/6.0-test/kernel/lib/libcrc32c.ko 0:0 "module libcrc32c"
100644 usr/lib/modules/6.0-test/modules.alias 0:0 "alias virtio:d00000002v* virtio_blk\nalias cpu:type:x86,*feature:*0094* crc32c_intel\n"
100644 usr/lib/modules/6.0-test/modules.dep 0:0 "kernel/arch/x86/crypto/crc32c-intel.ko:\nkernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko\nkernel/drivers/md/dm-mod.ko:\nkernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko\nkernel/lib/libcrc32c.ko: kernel/arch/x86/crypto/crc32c-intel.ko\nkernel/drivers/block/loop.ko:\nkernel/fs/overlayfs/overlay.ko:\nkernel/fs/squashfs/squashfs.ko:\nkernel/drivers/block/virtio_blk.ko:\nkernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko\n"
100644 usr/lib/modules/6.0-test/modules.load 0:0 "dm_verity\nloop\noverlay\nsquashfs\nxfs\n"
`

func TestInitramfs(t *testing.T) {
	root := testRoot(t)
	options := InitramfsOptions{
		Init: filepath.Join(root, "firstboot"), Root: root, ImageFile: "images/vm-disk.yaml",
		Modules: []string{"virtio-pci", "virtio_blk", "xfs"}, Out: filepath.Join(root, "one"),
	}
	info, err := Initramfs(options)
	if err != nil {
		t.Fatal(err)
	}
	if got := listArchive(t, options.Out); got != wantArchive {
		t.Errorf("archive is\n%s\nwant\n%s", got, wantArchive)
	}
	first, err := os.ReadFile(options.Out)
	if err != nil {
		t.Fatal(err)
	}
	if info.Kernel != "6.0-test" || info.Bytes != int64(len(first)) || len(info.Modules) != 10 || info.Unpacked == 0 {
		t.Errorf("info is %+v", info)
	}

	// Another directory, another order of names, the same bytes.
	again := options
	again.Modules = []string{"xfs", "virtio_blk", "virtio_pci", "xfs"}
	again.Out = filepath.Join(t.TempDir(), "two")
	if _, err := Initramfs(again); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(again.Out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two builds of the same input differ")
	}
}

func TestInitramfsBusybox(t *testing.T) {
	root := testRoot(t)
	options := InitramfsOptions{
		Init: filepath.Join(root, "firstboot"), Root: root, Kernel: "6.0-test", Busybox: filepath.Join(root, "firstboot"), Out: filepath.Join(root, "out"),
	}
	if _, err := Initramfs(options); err != nil {
		t.Fatal(err)
	}
	if got := listArchive(t, options.Out); !strings.Contains(got, "100755 bin/busybox ") {
		t.Errorf("no busybox in\n%s", got)
	}
	options.Busybox = filepath.Join(root, "absent")
	if _, err := Initramfs(options); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("without the file: %v", err)
	}
}

func TestInitramfsUnknownModules(t *testing.T) {
	root := testRoot(t)
	_, err := Initramfs(InitramfsOptions{Root: root, ImageFile: "images/vm-disk.yaml", Modules: []string{"virtio_blkk", "virtio_blk", "quux"}})
	if !document.IsInvalid(err) {
		t.Fatalf("error is %v, want a problem of the document", err)
	}
	for _, want := range []string{
		`images/vm-disk.yaml: modules[0]: "virtio_blkk" is no module of kernel 6.0-test; similar: virtio_blk`,
		`images/vm-disk.yaml: modules[2]: "quux" is no module of kernel 6.0-test; its modules are listed in`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%s", want, err)
		}
	}
}

func TestInitramfsKernels(t *testing.T) {
	root := testRoot(t)
	if err := os.Mkdir(filepath.Join(root, "usr/lib/modules/6.1-test"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Initramfs(InitramfsOptions{Root: root}); err == nil || !strings.Contains(err.Error(), "holds 2 kernels") {
		t.Errorf("two kernels: %v", err)
	}
	if _, err := Initramfs(InitramfsOptions{Root: root, Kernel: "6.1-test"}); err == nil || !strings.Contains(err.Error(), "what depmod wrote") {
		t.Errorf("a kernel without lists: %v", err)
	}
	if _, err := Initramfs(InitramfsOptions{Root: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "kernel's modules") {
		t.Errorf("no kernel: %v", err)
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"ab", "xaby", 2}, {"", "abc", 3}, {"nvme", "nvem", 2}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
