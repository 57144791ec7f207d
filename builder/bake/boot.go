package bake

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/kiln-os/kiln/builder/output"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/builder/seal"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Files of the sealed and the boot part.
const (
	fileRoot      = "root.img"
	fileVerity    = "root.verity"
	fileRootHash  = "roothash"
	fileInitramfs = "initramfs.cpio.zst"
	fileUKI       = "kiln.efi"
	fileESP       = "esp.img"
)

// seal joins both filesystems and hashes every block.
func (b *build) seal(ctx context.Context) (note string, err error) {
	key := parts.Key("sealed", "1", b.system.Name, b.payloadFS.Name)
	b.sealed, err = b.makePart(ctx, key, "seal", "joining and hashing every block", func(_ context.Context, dir string, _ *progress.Task) error {
		root := filepath.Join(dir, fileRoot)
		if err := seal.Join(root, b.system.Path("system.squashfs"), b.payloadFS.Path("payload.squashfs")); err != nil {
			return err
		}
		hash, err := seal.Verity(root, filepath.Join(dir, fileVerity), key)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, fileRootHash), []byte(hash+"\n"), 0o644)
	})
	if err != nil {
		return "", err
	}
	if err := b.checkFits(); err != nil {
		return "", err
	}
	hash, err := os.ReadFile(b.sealed.Path(fileRootHash))
	b.rootHash = strings.TrimSpace(string(hash))
	return "", err
}

// checkFits refuses a root that has outgrown its partition. The part may have been made for an image with larger ones.
func (b *build) checkFits() error {
	root, err := os.Stat(b.sealed.Path(fileRoot))
	if err != nil {
		return err
	}
	tree, err := os.Stat(b.sealed.Path(fileVerity))
	if err != nil {
		return err
	}
	disk := b.Plan.Image.Disk
	if err := output.CheckBudget(nodefs.LabelRootA, root.Size(), int64(disk.Root)); err != nil {
		return err
	}
	// The partition of the tree is sized for a full root.
	if tree.Size() > int64(disk.Verity) {
		return &output.TooLargeError{Partition: nodefs.LabelRootAVerity, Need: tree.Size(), Have: int64(disk.Verity)}
	}
	return nil
}

// makeBoot makes what the firmware loads.
func (b *build) makeBoot(ctx context.Context) (note string, err error) {
	image := b.Plan.Image
	// Of the image only what is in these files: a platform's formats share them.
	inputs := []any{b.Plan.CommandLine(b.rootHash), image.Modules, image.Disk.ESP, image.BIOS(), b.signedBy()}
	if image.BIOS() {
		grub, err := b.grub(ctx)
		if err != nil {
			return "", err
		}
		inputs = append(inputs, filepath.Base(grub.Tools.Dir))
	}
	key := parts.Key("boot", "4", b.sealed.Name, filepath.Base(b.tools.Dir), b.kernel.Key(), b.firstbootSum, inputs, b.version)
	b.boot, err = b.makePart(ctx, key, "boot", "making initramfs, unified kernel image and EFI system partition", func(ctx context.Context, dir string, _ *progress.Task) error {
		initramfs, err := b.initramfs(ctx)
		if err != nil {
			return err
		}
		if err := link(initramfs, filepath.Join(dir, fileInitramfs)); err != nil {
			return err
		}
		uki, err := b.uki(initramfs, b.Plan.CommandLine(b.rootHash))
		if err != nil {
			return err
		}
		if err := b.writeProgram(filepath.Join(dir, fileUKI), uki); err != nil {
			return err
		}
		return b.esp(ctx, dir)
	})
	return "", err
}

// initramfs is a part of its own: it changes with the kernel and firstboot only.
func (b *build) initramfs(ctx context.Context) (string, error) {
	key := parts.Key("initramfs", "1", b.kernel.Key(), b.firstbootSum, filepath.Base(b.tools.Dir), b.Plan.Image.Modules)
	part, err := b.Store.Make(ctx, key, func(_ context.Context, dir string) error {
		_, err := seal.Initramfs(seal.InitramfsOptions{
			Init: b.Firstboot, Root: b.kernel.Tree(), Kernel: b.kernel.Version, Modules: b.Plan.Image.Modules,
			ImageFile: b.Plan.ImageFile, Busybox: b.tools.Path("usr/bin/busybox"), Out: filepath.Join(dir, fileInitramfs),
		})
		return err
	})
	return part.Path(fileInitramfs), err
}

func (b *build) uki(initramfs, commandLine string) ([]byte, error) {
	osRelease, err := os.ReadFile(b.system.Path("os-release"))
	if err != nil {
		return nil, err
	}
	return seal.UKI{
		Stub: b.tools.Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub"), Kernel: b.kernel.Image(), Initramfs: initramfs,
		CommandLine: commandLine, OSRelease: bootEntry(string(osRelease), b.version), Uname: b.kernel.Version,
	}.Build()
}

// bootEntry is the os-release text of the boot menu's entry: kiln's own name and version, so that entries sort by version.
func bootEntry(osRelease, version string) string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(osRelease), "\n") {
		if !strings.HasPrefix(line, "PRETTY_NAME=") && !strings.HasPrefix(line, "IMAGE_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(append(lines, "PRETTY_NAME=\"kiln "+version+"\"", "IMAGE_ID=kiln", "IMAGE_VERSION="+version), "\n") + "\n"
}

// loaderConf makes systemd-boot start the newest entry at once; holding a key shows the menu. Editing the command line
// would defeat the root hash in it.
const loaderConf = "timeout 0\neditor no\nauto-entries no\nauto-firmware yes\n"

// esp makes the EFI system partition.
func (b *build) esp(ctx context.Context, dir string) error {
	files, err := b.bootFiles(ctx, dir)
	if err != nil {
		return err
	}
	esp := output.ESP{
		Run: b.Run, Tools: b.tools, Size: int64(b.Plan.Image.Disk.ESP), Epoch: b.Plan.Release.Timestamp,
		Serial: crc32.ChecksumIEEE([]byte(b.version)), Files: files,
	}
	// What has the version in its path is there twice for a while: an update writes the next one before it removes this one.
	for name, host := range files {
		if !strings.Contains(name, b.version) {
			continue
		}
		info, err := os.Stat(host)
		if err != nil {
			return err
		}
		esp.Reserve += info.Size()
	}
	return esp.Write(ctx, filepath.Join(dir, fileESP))
}

// bootFiles makes what firmware and loaders find in the EFI system partition, by path.
func (b *build) bootFiles(ctx context.Context, dir string) (map[string]string, error) {
	conf, loader := filepath.Join(dir, "loader.conf"), filepath.Join(dir, "loader.efi")
	if err := os.WriteFile(conf, []byte(loaderConf), 0o644); err != nil {
		return nil, err
	}
	program, err := os.ReadFile(b.tools.Path("usr/lib/systemd/boot/efi/systemd-bootx64.efi"))
	if err != nil {
		return nil, err
	}
	if err := b.writeProgram(loader, program); err != nil {
		return nil, err
	}
	files := map[string]string{
		"EFI/BOOT/BOOTX64.EFI": loader, "EFI/Linux/kiln-" + b.version + ".efi": filepath.Join(dir, fileUKI), "loader/loader.conf": conf,
	}
	keys, err := b.enrolment(filepath.Join(dir, dirEnrolment))
	if err != nil {
		return nil, err
	}
	for _, name := range keys {
		if filepath.Ext(name) == ".auth" {
			files[path.Join(autoEnrolment, name)] = filepath.Join(dir, dirEnrolment, name)
		}
	}
	if !b.Plan.Image.BIOS() {
		return files, nil
	}
	more, err := b.addBIOS(ctx, dir)
	maps.Copy(files, more)
	return files, err
}

// disk is the image's partition table with what goes into each partition.
func (b *build) disk() (output.Disk, error) {
	data, tree, err := output.VerityGUIDs(b.rootHash)
	if err != nil {
		return output.Disk{}, err
	}
	contents := map[plan.Content]string{
		plan.ContentESP: b.boot.Path(fileESP), plan.ContentRoot: b.sealed.Path(fileRoot), plan.ContentVerity: b.sealed.Path(fileVerity),
	}
	code := []byte(nil)
	if b.Plan.Image.BIOS() {
		contents[plan.ContentBIOS] = b.boot.Path(fileBIOS)
		if code, err = os.ReadFile(b.boot.Path(fileBootCode)); err != nil {
			return output.Disk{}, err
		}
	}
	ids := map[plan.Content]string{plan.ContentRoot: data, plan.ContentVerity: tree}
	layout := b.Plan.Layout()
	disk := output.Disk{ID: output.DeriveGUID("disk " + b.rootHash), Size: int64(layout.Size), BootCode: code}
	for _, p := range layout.Partitions {
		id := ids[p.Content]
		if id == "" {
			id = output.DeriveGUID(p.Label + " " + b.rootHash)
		}
		disk.Partitions = append(disk.Partitions, output.Partition{
			Label: p.Label, Type: p.TypeGUID, ID: id, Offset: p.Offset, Size: p.Size, ReadOnly: p.ReadOnly, Content: contents[p.Content],
		})
	}
	return disk, nil
}

// explain adds what to do to errors that a user can mend.
func (b *build) explain(err error) error {
	var tooLarge *output.TooLargeError
	if errors.As(err, &tooLarge) {
		field := map[string]string{nodefs.LabelESP: "disk.esp", nodefs.LabelRootA: "disk.root", nodefs.LabelRootAVerity: "disk.verity"}[tooLarge.Partition]
		least := (document.Size(tooLarge.Least()) + document.MiB - 1) / document.MiB * document.MiB
		return document.Problem{File: b.Plan.ImageFile, Field: field, Text: fmt.Sprintf("%s; want at least %s", tooLarge, least)}
	}
	return err
}
