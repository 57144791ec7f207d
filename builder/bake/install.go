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
	if err := compress(filepath.Join(dir, fileESPZstd), b.boot.Path(fileESP)); err != nil {
		return fmt.Errorf("compressing the EFI system partition: %w", err)
	}
	manifest := install.Manifest{Image: b.Plan.Image.Name + " " + b.version, RootHash: b.rootHash}
	err := b.describeBlobs(&manifest)
	if err != nil {
		return err
	}
	if manifest.Disk, err = b.installedDisk(); err != nil {
		return err
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

// describeBlobs fills in what is written to the disk.
func (b *build) describeBlobs(m *install.Manifest) error {
	type entry struct {
		blob       *install.Blob
		name, host string
	}
	entries := []entry{
		{&m.ESP, fileESPZstd, b.boot.Path(fileESP)},
		{&m.Root, nodefs.LiveRoot, b.sealed.Path(fileRoot)},
		{&m.Verity, nodefs.LiveVerity, b.sealed.Path(fileVerity)},
	}
	if b.Plan.Image.BIOS() {
		m.BIOS, m.BootCode = &install.Blob{}, &install.Blob{}
		entries = append(entries, entry{m.BIOS, fileBIOS, b.boot.Path(fileBIOS)}, entry{m.BootCode, fileBootCode, b.boot.Path(fileBootCode)})
	}
	for _, e := range entries {
		info, err := os.Stat(e.host)
		if err != nil {
			return err
		}
		sum, err := parts.SHA256File(e.host)
		if err != nil {
			return err
		}
		*e.blob = install.Blob{File: e.name, Size: info.Size(), SHA256: sum}
	}
	return nil
}

// installedDisk is the partition table of the disk image, for machines that write it themselves. The node adds the state
// partition, as on every other disk.
func (b *build) installedDisk() (install.Disk, error) {
	disk, err := b.disk()
	if err != nil {
		return install.Disk{}, err
	}
	layout := b.Plan.Layout()
	result := install.Disk{ID: disk.ID, Size: int64(layout.MinimumDisk())}
	for i, p := range layout.Partitions {
		result.Partitions = append(result.Partitions, install.Partition{
			Label: p.Label, Type: p.TypeGUID, ID: disk.Partitions[i].ID, Offset: p.Offset, Size: p.Size, ReadOnly: p.ReadOnly, Content: installed(p.Content),
		})
	}
	return result, nil
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
