package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/containerd/go-dmverity/pkg/verity"

	manifest "github.com/kiln-os/kiln/internal/install"
)

// readBack reads n bytes of the disk and gives them to all writers, at the same time.
func readBack(ctx context.Context, t *Target, offset, n int64, to ...io.Writer) error {
	filled, free := make(chan buffer), make(chan []byte, 2)
	for range cap(free) {
		free <- alignedBuffer(chunkOf(n))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(filled)
		for at := int64(0); at < n; at += chunk {
			b := buffer{n: int(min(n-at, chunk))}
			select {
			case b.bytes = <-free:
			case <-ctx.Done():
				return
			}
			padded := (int64(b.n) + t.Sector - 1) / t.Sector * t.Sector
			b.err = readFull(t, b.bytes[:padded], offset+at)
			select {
			case filled <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	for b := range filled {
		if b.err != nil {
			return b.err
		}
		for _, w := range to {
			if _, err := w.Write(b.bytes[:b.n]); err != nil {
				return err
			}
		}
		free <- b.bytes
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// verifyBlob compares what the disk has at an offset with a digest.
func verifyBlob(ctx context.Context, t *Target, offset int64, b manifest.Blob, also ...io.Writer) error {
	sum := sha256.New()
	if err := readBack(ctx, t, offset, b.Size, append(also, sum)...); err != nil {
		return fmt.Errorf("reading back %s: %w", b.File, err)
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != b.SHA256 {
		return &differs{blob: b, disk: t.Path, have: have}
	}
	return nil
}

// differs says that the disk has other bytes than the blob.
type differs struct {
	blob manifest.Blob
	disk string
	have string
}

// Error implements error.
func (d *differs) Error() string {
	return fmt.Sprintf("reading back %s: %s has other bytes than were written to it (SHA-256 %s, want %s); the disk is bad, or something else writes to it",
		d.blob.File, d.disk, d.have, d.blob.SHA256)
}

// verifyTree reads back the root and its hash tree, and makes the tree anew: its top has to be the root hash.
func verifyTree(ctx context.Context, t *Target, m manifest.Manifest) error {
	rootAt, _ := m.Disk.With(manifest.ContentRoot)
	treeAt, _ := m.Disk.With(manifest.ContentVerity)
	var stored bytes.Buffer
	if err := verifyBlob(ctx, t, treeAt.Offset, m.Verity, &stored); err != nil {
		return err
	}
	top, err := verity.ReadSuperblock(bytes.NewReader(stored.Bytes()), 0)
	if err != nil {
		return fmt.Errorf("reading the hash tree: %w", err)
	}
	if top.HashType != 1 || top.DataBlockSize != treeBlock || top.HashBlockSize != treeBlock || int64(top.DataBlocks)*treeBlock != m.Root.Size ||
		int(top.SaltSize) > len(top.Salt) || stored.Len() < treeBlock {
		return errors.New("reading the hash tree: it is not of the root that was written; build the live set again")
	}
	h := &treeHash{salt: top.Salt[:top.SaltSize], sum: sha256.New()}
	if err := verifyBlob(ctx, t, rootAt.Offset, m.Root, h); err != nil {
		return err
	}
	tree, root := h.tree()
	if hex.EncodeToString(root) != m.RootHash || !bytes.HasPrefix(stored.Bytes()[treeBlock:], tree) {
		return fmt.Errorf("verifying the hash tree: the root on %s has the root hash %x, want %s; build the live set again", t.Path, root, m.RootHash)
	}
	return nil
}

// treeBlock is the size of data and hash blocks that kiln's builder uses, in bytes.
const treeBlock = 4096

// treeHash makes a dm-verity hash tree (format 1, SHA-256) from the data that is written to it, in whole blocks.
type treeHash struct {
	salt []byte
	sum  hash.Hash
	// digests is the lowest level.
	digests []byte
}

// Write implements io.Writer.
func (h *treeHash) Write(p []byte) (int, error) {
	if len(p)%treeBlock != 0 {
		return 0, fmt.Errorf("verifying the hash tree: the root is not whole blocks of %d bytes", treeBlock)
	}
	h.digests = h.level(h.digests, p)
	return len(p), nil
}

// level appends the digest of each block of p.
func (h *treeHash) level(digests, p []byte) []byte {
	for at := 0; at < len(p); at += treeBlock {
		h.sum.Reset()
		h.sum.Write(h.salt)
		h.sum.Write(p[at:][:treeBlock])
		digests = h.sum.Sum(digests)
	}
	return digests
}

// tree is the tree as it lies on the disk, the top first, and the root hash.
func (h *treeHash) tree() (tree, root []byte) {
	level := h.digests
	for {
		if rest := len(level) % treeBlock; rest != 0 {
			level = append(bytes.Clone(level), make([]byte, treeBlock-rest)...)
		}
		tree = append(bytes.Clone(level), tree...)
		if len(level) == treeBlock {
			return tree, h.level(nil, level)
		}
		level = h.level(nil, level)
	}
}
