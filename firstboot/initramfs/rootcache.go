package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/firstboot/initramfs/hashtree"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// The root's cache is a partition of the disk that the state lies on: the hash tree, and from the next whole MiB on the root.
// Nothing says that it is whole but its hashes, which are all compared before it is used: a power cut leaves a cache that
// is written again.
const (
	// cacheType is the partition's type, kiln's own: systemd-repart tells partitions apart by their types.
	cacheType = "6f9a3c1e-2d47-4b0a-9e58-71c0a4d2b6f3"
	// cacheSize is the partition's size in bytes: as much as a disk image has for one root and its tree, and some.
	cacheSize = 1280 << 20
)

// cacheData is where on the partition the root begins.
func cacheData(treeSize int64) int64 { return (treeSize + grain - 1) / grain * grain }

// findCache looks for the root on the disk for the state. There not being any is no error: it is fetched then.
func (b *boot) findCache(context.Context) (string, error) {
	chosen, err := b.awaitDisk(b.params.State)
	if err != nil {
		return "", err
	}
	d, _ := b.devices.read(filepath.Base(chosen.Path))
	e, found := d.labelled(nodefs.LabelRootCache)
	device := d.devices[e.number]
	if !found || device == "" {
		return "none on " + chosen.Path, nil
	}
	file, err := os.Open(device)
	if err != nil {
		return "", err
	}
	defer file.Close()
	tree, size, err := readCache(file, b.params.RootHash)
	if err != nil {
		return fmt.Sprintf("%s has another root, or half of one: %s", device, err), nil
	}
	if err := b.attachCache(device, tree, size); err != nil {
		return "", err
	}
	b.cached = true
	return fmt.Sprintf("%s on %s, every block checked: nothing is fetched", document.Size(tree.DataSize()), device), nil
}

// readCache checks all of a cache by the root hash, and tells how many bytes its tree has.
func readCache(cache io.ReaderAt, rootHash []byte) (*hashtree.Tree, int64, error) {
	header, err := hashtree.ReadHeader(cache)
	if err != nil {
		return nil, 0, err
	}
	tree, err := hashtree.Read(cache, rootHash)
	if err != nil {
		return nil, 0, err
	}
	data := io.NewSectionReader(cache, cacheData(header.TreeSize()), tree.DataSize())
	block := make([]byte, hashtree.BlockSize)
	for n := range tree.DataSize() / hashtree.BlockSize {
		if _, err := io.ReadFull(data, block); err != nil {
			return nil, 0, fmt.Errorf("reading block %d: %w", n, err)
		}
		if !tree.Matches(n, block) {
			return nil, 0, fmt.Errorf("block %d: %w", n, hashtree.ErrMismatch)
		}
	}
	return tree, header.TreeSize(), nil
}

func (b *boot) attachCache(device string, tree *hashtree.Tree, treeSize int64) error {
	data, err := attachRange(byteRange{path: device, offset: cacheData(treeSize), size: tree.DataSize()})
	if err != nil {
		return err
	}
	hashes, err := attachRange(byteRange{path: device, size: treeSize})
	if err != nil {
		return err
	}
	b.root = opened{data: data, tree: hashes, where: "the cache " + device, remedy: "delete the partition; the next boot fetches the root again"}
	b.facts.RootDevice, b.facts.RootLabel = data, nodefs.LabelRootCache
	b.facts.Live = &Live{Source: b.params.Root.url, Device: device}
	return nil
}

// keepCache writes the root that was fetched to the disk of the state, if there is room. A cache that cannot be written is
// no reason not to boot.
func (b *boot) keepCache(ctx context.Context) {
	device, err := b.makeCache(ctx)
	if err == nil {
		b.console.say("state: writing the root's cache, %s", device)
		err = writeCache(device, nodefs.LiveFiles)
	}
	if err != nil {
		b.console.complain("state: the root is not kept for the next boot: %s", err)
	}
}

// makeCache returns the cache's partition, which it makes if there is none.
func (b *boot) makeCache(ctx context.Context) (string, error) {
	d, err := b.rereadDisk()
	if err != nil {
		return "", err
	}
	if e, found := d.labelled(nodefs.LabelRootCache); found {
		return d.devices[e.number], nil
	}
	need := int64(cacheSize)
	if _, found := d.labelled(nodefs.LabelState); !found {
		least, err := stateMinimum(filepath.Join(sysroot, nodefs.RepartDefinitions))
		if err != nil {
			return "", err
		}
		need += least
	}
	if room := d.table.unused(); room < need {
		return "", fmt.Errorf("%s has room for %s; want %s", d.path, document.Size(room), document.Size(need))
	}
	const definitions = "/run/kiln/repart.d"
	text := fmt.Sprintf("[Partition]\nType=%s\nLabel=%s\nSizeMinBytes=%d\nSizeMaxBytes=%d\n", cacheType, nodefs.LabelRootCache, cacheSize, cacheSize)
	if err := errors.Join(os.MkdirAll(definitions, 0o755), os.WriteFile(filepath.Join(definitions, "root-cache.conf"), []byte(text), 0o644)); err != nil {
		return "", err
	}
	if err := repart(ctx, b.commands, repartition{disk: d.path, definitions: definitions, blank: b.blankState}); err != nil {
		return "", err
	}
	b.blankState = false
	d, e, err := b.awaitPartition(nodefs.LabelRootCache)
	return d.devices[e.number], err
}

// writeCache copies root.img and root.verity from a directory to the partition; the tree last, so that an old one does not
// stand before half of a new root.
func writeCache(device, from string) error {
	out, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	tree, err := os.ReadFile(filepath.Join(from, nodefs.LiveVerity))
	if err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(writeCacheTo(out, tree, filepath.Join(from, nodefs.LiveRoot)), out.Sync(), out.Close())
}

func writeCacheTo(out *os.File, tree []byte, root string) error {
	size, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	file, err := os.Open(root)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	begin := cacheData(int64(len(tree)))
	if begin+info.Size() > size {
		return fmt.Errorf("it has %s, and the root takes %s", document.Size(size), document.Size(begin+info.Size()))
	}
	if _, err := io.Copy(io.NewOffsetWriter(out, begin), file); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	_, err = out.WriteAt(tree, 0)
	return err
}
