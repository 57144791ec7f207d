// Package hashtree checks data against a dm-verity hash tree outside the kernel, block by block, as it arrives. What the
// kernel finds wrong it can only answer by stopping; here a block can be fetched again, and named.
package hashtree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/containerd/go-dmverity/pkg/verity"
)

// Limits of the trees that kiln's builder makes: 4 KiB blocks and SHA-256. They bound what a stranger's file can cost.
const (
	BlockSize = 4096
	perBlock  = BlockSize / sha256.Size
	// MaxData is the most data that a tree may cover: over a hundred times what a node image has.
	MaxData = 64 << 30
)

// Tree is a hash tree that belongs to a root hash: all of its blocks were checked.
type Tree struct {
	salt []byte
	// blocks is how many blocks of data it covers.
	blocks int64
	// leaves are the hashes of the data's blocks, one after the other.
	leaves []byte
}

// Header is what the superblock says, before anything was checked.
type Header struct {
	// Blocks is how many blocks of BlockSize bytes of data the tree covers.
	Blocks int64
	salt   []byte
}

// ReadHeader reads the superblock in the first block of a tree's file, and refuses what kiln's builder does not make.
func ReadHeader(tree io.ReaderAt) (Header, error) {
	super, err := verity.ReadSuperblock(tree, 0)
	if err != nil {
		return Header{}, fmt.Errorf("reading the hash tree's superblock: %w", err)
	}
	algorithm := string(bytes.TrimRight(super.Algorithm[:], "\x00"))
	if super.HashType != 1 || algorithm != "sha256" || super.DataBlockSize != BlockSize || super.HashBlockSize != BlockSize || int(super.SaltSize) > len(super.Salt) {
		return Header{}, fmt.Errorf("the hash tree is of type %d, %q, with blocks of %d and %d bytes; want type 1, sha256 and 4096",
			super.HashType, algorithm, super.DataBlockSize, super.HashBlockSize)
	}
	if super.DataBlocks < 2 || super.DataBlocks > MaxData/BlockSize {
		return Header{}, fmt.Errorf("the hash tree covers %d blocks; want 2 to %d", super.DataBlocks, MaxData/BlockSize)
	}
	return Header{Blocks: int64(super.DataBlocks), salt: bytes.Clone(super.Salt[:super.SaltSize])}, nil
}

// DataSize is how many bytes the tree covers.
func (h Header) DataSize() int64 { return h.Blocks * BlockSize }

// TreeSize is how many bytes the file of the tree has: a block for the superblock, and the levels.
func (h Header) TreeSize() int64 {
	size := int64(BlockSize)
	for _, n := range h.levels() {
		size += n * BlockSize
	}
	return size
}

// levels are the numbers of blocks of each level, the uppermost first, as they lie in the file (cryptsetup's "DM-Verity on-disk format").
func (h Header) levels() []int64 {
	var levels []int64
	for n := h.Blocks; n > 1; {
		n = (n + perBlock - 1) / perBlock
		levels = append([]int64{n}, levels...)
	}
	return levels
}

// ErrMismatch says that a tree does not belong to the root hash, or is damaged.
var ErrMismatch = errors.New("it does not match the root hash")

// Read reads a tree and checks it from the root hash (32 bytes) down to the leaves. The error is ErrMismatch, wrapped, when
// a block is not what the one above it says.
func Read(tree io.ReaderAt, rootHash []byte) (*Tree, error) {
	header, err := ReadHeader(tree)
	if err != nil {
		return nil, err
	}
	t := &Tree{salt: header.salt, blocks: header.Blocks, leaves: rootHash}
	offset := int64(BlockSize)
	for depth, n := range header.levels() {
		level := make([]byte, n*BlockSize)
		if _, err := io.ReadFull(io.NewSectionReader(tree, offset, math.MaxInt64-offset), level); err != nil {
			return nil, fmt.Errorf("reading level %d of the hash tree: %w", depth, err)
		}
		// Until the next round, leaves are the hashes of this level.
		for i := range n {
			if !t.Matches(i, level[i*BlockSize:(i+1)*BlockSize]) {
				return nil, fmt.Errorf("block %d in level %d of the hash tree: %w", i, depth, ErrMismatch)
			}
		}
		t.leaves = level
		offset += n * BlockSize
	}
	return t, nil
}

// DataSize is how many bytes the tree covers.
func (t *Tree) DataSize() int64 { return t.blocks * BlockSize }

// Matches tells whether data, of BlockSize bytes, is the block with that number.
func (t *Tree) Matches(block int64, data []byte) bool {
	begin := block * sha256.Size
	if block < 0 || begin+sha256.Size > int64(len(t.leaves)) {
		return false
	}
	// Salt first: hash type 1.
	hash := sha256.New()
	hash.Write(t.salt)
	hash.Write(data)
	return bytes.Equal(hash.Sum(nil), t.leaves[begin:begin+sha256.Size])
}
