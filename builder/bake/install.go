package bake

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/install"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// describeInstall writes install.json and the compressed EFI system partition.
func (b *build) describeInstall(dir string) error {
	disk, err := b.disk()
	if err != nil {
		return err
	}
	if err := compress(filepath.Join(dir, fileESPZstd), b.boot.Path(fileESP)); err != nil {
		return fmt.Errorf("compressing the EFI system partition: %w", err)
	}
	manifest := install.Manifest{
		Image: b.Plan.Image.Name + " " + b.version, RootHash: b.rootHash,
		Disk: install.Disk{ID: disk.ID, Size: int64(b.Plan.Layout().MinimumDisk())},
	}
	blob := func(name, host string) (install.Blob, error) {
		info, err := os.Stat(host)
		if err != nil {
			return install.Blob{}, err
		}
		sum, err := parts.SHA256File(host)
		return install.Blob{File: name, Size: info.Size(), SHA256: sum}, err
	}
	if manifest.ESP, err = blob(fileESPZstd, b.boot.Path(fileESP)); err != nil {
		return err
	}
	if manifest.Root, err = blob(nodefs.LiveRoot, b.sealed.Path(fileRoot)); err != nil {
		return err
	}
	if manifest.Verity, err = blob(nodefs.LiveVerity, b.sealed.Path(fileVerity)); err != nil {
		return err
	}
	if b.Plan.Image.BIOS() {
		core, err := blob(fileBIOS, b.boot.Path(fileBIOS))
		if err != nil {
			return err
		}
		code, err := blob(fileBootCode, b.boot.Path(fileBootCode))
		if err != nil {
			return err
		}
		manifest.BIOS, manifest.BootCode = &core, &code
	}
	for i, p := range b.Plan.Layout().Partitions {
		manifest.Disk.Partitions = append(manifest.Disk.Partitions, install.Partition{
			Label: p.Label, Type: p.TypeGUID, ID: disk.Partitions[i].ID, Offset: p.Offset, Size: p.Size, ReadOnly: p.ReadOnly, Content: installed(p.Content),
		})
	}
	text, err := manifest.Render()
	if err != nil {
		return err
	}
	if _, err := install.Parse(install.File, text); err != nil {
		return fmt.Errorf("describing the installation: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, install.File), text, 0o644)
}

// installed is a partition's content in the words of install.json.
func installed(content plan.Content) string {
	switch content {
	case plan.ContentESP:
		return install.ContentESP
	case plan.ContentRoot:
		return install.ContentRoot
	case plan.ContentVerity:
		return install.ContentVerity
	case plan.ContentBIOS:
		return install.ContentBIOS
	default:
		return install.ContentNone
	}
}

// compress packs a file with zstd. One goroutine, so that the bytes do not depend on the machine.
func compress(out, path string) error {
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(out)
	if err != nil {
		return err
	}
	defer target.Close()
	packed, err := zstd.NewWriter(target, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if _, err := io.Copy(packed, source); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	return target.Close()
}
