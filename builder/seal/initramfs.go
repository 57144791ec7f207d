package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// InitramfsOptions says what goes into an initramfs.
type InitramfsOptions struct {
	// Init is the path of the firstboot binary, which becomes /init.
	Init string
	// Root is a directory that holds usr/lib/modules/KVER with the modules and depmod's lists.
	Root string
	// Kernel is the kernel's release, KVER; empty means the only one there is.
	Kernel string
	// Modules are the modules of the Image document ImageFile; what every node needs is added.
	Modules   []string
	ImageFile string
	// Busybox is the path of a static busybox for kiln.shell; empty leaves it out.
	Busybox string
	// Out is the file to write.
	Out string
}

// InitramfsInfo is what an initramfs holds.
type InitramfsInfo struct {
	// Kernel is the release of the kernel it is for.
	Kernel string
	// Modules are all modules in it, dependencies included.
	Modules []string
	// Bytes is the size of the file, Unpacked what it takes in the machine's memory.
	Bytes, Unpacked int64
}

// modulesLoad is the list of modules that firstboot's initramfs loads without being asked by a device.
const modulesLoad = "modules.load"

// requiredModules are what opening the root and the state partition takes; loop is for systemd-repart.
func requiredModules() []string {
	return []string{"dm_verity", "squashfs", "overlay", "ext4", "loop"}
}

// optionalModules make checksums faster where the kernel has them and the processor asks for them.
func optionalModules() []string {
	return []string{"sha256_ssse3", "crc32c_intel", "sha2_ce", "sha256_arm64", "crc32_ce"}
}

// Initramfs writes the initramfs: a newc cpio archive with our /init and the modules that find the root, as one zstd
// frame. The same input gives the same bytes. Names in Modules that the kernel does not have are document problems.
func Initramfs(o InitramfsOptions) (InitramfsInfo, error) {
	modules, err := readModules(o.Root, o.Kernel)
	if err != nil {
		return InitramfsInfo{}, err
	}
	chosen, err := modules.choose(o.ImageFile, o.Modules, requiredModules(), optionalModules())
	if err != nil {
		return InitramfsInfo{}, err
	}
	records, err := initramfsRecords(o, modules, chosen)
	if err != nil {
		return InitramfsInfo{}, err
	}
	info := InitramfsInfo{Kernel: modules.version, Modules: chosen.names()}
	for _, record := range records {
		info.Unpacked += int64(record.FileSize)
	}
	if err := writeArchive(o.Out, records); err != nil {
		return info, fmt.Errorf("writing %s: %w", o.Out, err)
	}
	stat, err := os.Stat(o.Out)
	if err != nil {
		return info, err
	}
	info.Bytes = stat.Size()
	return info, nil
}

// initramfsRecords lists the archive's files, without their directories.
func initramfsRecords(o InitramfsOptions, modules kernelModules, chosen selection) ([]cpio.Record, error) {
	records := []cpio.Record{
		// The kernel opens this for /init before anything is mounted.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.Directory("proc", 0o755), cpio.Directory("sys", 0o755), cpio.Directory("run", 0o755), cpio.Directory("sysroot", 0o755),
	}
	programs := map[string]string{"init": o.Init}
	if o.Busybox != "" {
		programs["bin/busybox"] = o.Busybox
	}
	for name, file := range programs {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a program for the initramfs: %w", err)
		}
		records = append(records, cpio.StaticFile(name, string(text), 0o755))
	}
	dir := path.Join(nodefs.Modules, modules.version)
	for _, name := range chosen.names() {
		text, err := modules.read(name)
		if err != nil {
			return nil, err
		}
		records = append(records, cpio.StaticFile(path.Join(dir, modules.unpackedFile(name)), string(text), 0o644))
	}
	return append(records,
		cpio.StaticFile(path.Join(dir, "modules.dep"), modules.dependencyList(chosen), 0o644),
		cpio.StaticFile(path.Join(dir, "modules.alias"), modules.aliasList(chosen), 0o644),
		cpio.StaticFile(path.Join(dir, modulesLoad), strings.Join(append(chosen.load, ""), "\n"), 0o644)), nil
}

// unpackedFile is a module's path below the modules' directory once it is unpacked.
func (m kernelModules) unpackedFile(name string) string {
	file, _, _ := strings.Cut(m.files[name], ".ko")
	return file + ".ko"
}

// dependencyList renders modules.dep for the chosen modules.
func (m kernelModules) dependencyList(chosen selection) string {
	var out strings.Builder
	for _, name := range chosen.names() {
		out.WriteString(m.unpackedFile(name) + ":")
		for _, dep := range chosen.deps[name] {
			if m.files[dep] != "" {
				out.WriteString(" " + m.unpackedFile(dep))
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// aliasList renders modules.alias: what lets a device ask for one of the chosen modules.
func (m kernelModules) aliasList(chosen selection) string {
	var out strings.Builder
	for _, a := range m.aliases {
		if _, ok := chosen.deps[a.module]; ok && a.isDevice() {
			fmt.Fprintf(&out, "alias %s %s\n", a.pattern, a.module)
		}
	}
	return out.String()
}

// writeArchive writes records and the directories they lie in, sorted by name, so that a directory comes before its
// files: the kernel makes none by itself.
func writeArchive(out string, records []cpio.Record) error {
	cpio.MakeAllReproducible(records)
	known := map[string]bool{}
	for _, r := range records {
		known[r.Name] = true
	}
	for _, r := range slices.Clone(records) {
		for dir := path.Dir(r.Name); dir != "." && !known[dir]; dir = path.Dir(dir) {
			known[dir] = true
			records = append(records, cpio.Directory(dir, 0o755))
		}
	}
	slices.SortFunc(records, func(a, b cpio.Record) int { return strings.Compare(a.Name, b.Name) })
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(compressArchive(file, records), file.Close())
}

// compressArchive writes the archive as one zstd frame. The kernel allows windows up to 128 MiB; the
// encoder's own, 8 MiB at most, is within that. One goroutine, so that the bytes do not depend on the machine.
func compressArchive(w io.Writer, records []cpio.Record) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	packed, err := zstd.NewWriter(buffered, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	archive := cpio.Newc.Writer(packed)
	if err := cpio.WriteRecords(archive, records); err != nil {
		return err
	}
	if err := cpio.WriteTrailer(archive); err != nil {
		return err
	}
	return errors.Join(packed.Close(), buffered.Flush())
}
