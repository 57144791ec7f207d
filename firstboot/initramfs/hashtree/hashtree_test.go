package hashtree

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/go-dmverity/pkg/verity"
)

// made is data of a number of blocks with its tree, as the library makes it.
func made(t *testing.T, blocks int, change func(*verity.Params)) (data, tree, hash []byte) {
	t.Helper()
	dir := t.TempDir()
	data = make([]byte, blocks*BlockSize)
	random := rand.NewChaCha8([32]byte{byte(blocks)})
	_, _ = random.Read(data)
	dataFile, treeFile := filepath.Join(dir, "data"), filepath.Join(dir, "tree")
	for file, text := range map[string][]byte{dataFile: data, treeFile: nil} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	params := verity.DefaultParams()
	params.DataBlockSize, params.HashBlockSize, params.DataBlocks = BlockSize, BlockSize, uint64(blocks)
	params.HashAreaOffset = BlockSize
	params.Salt, params.SaltSize, params.UUID = []byte("salt of some bytes"), 18, [16]byte{1}
	if change != nil {
		change(&params)
	}
	hash, err := verity.Create(&params, dataFile, treeFile)
	if err != nil {
		t.Fatal(err)
	}
	tree, err = os.ReadFile(treeFile)
	if err != nil {
		t.Fatal(err)
	}
	return data, tree, hash
}

func TestRead(t *testing.T) {
	// One level, two and three, whole and with a rest.
	for _, blocks := range []int{2, 127, 128, 129, 128 * 128, 128*128 + 1} {
		data, text, hash := made(t, blocks, nil)
		tree, err := Read(bytes.NewReader(text), hash)
		if err != nil {
			t.Errorf("%d blocks: %v", blocks, err)
			continue
		}
		if tree.DataSize() != int64(len(data)) {
			t.Errorf("%d blocks: covers %d bytes", blocks, tree.DataSize())
		}
		for _, i := range []int{0, 1, blocks / 2, blocks - 1} {
			block := bytes.Clone(data[i*BlockSize : (i+1)*BlockSize])
			if !tree.Matches(int64(i), block) {
				t.Errorf("%d blocks: block %d does not match", blocks, i)
			}
			block[7] ^= 1
			if tree.Matches(int64(i), block) {
				t.Errorf("%d blocks: block %d matches with a bit turned", blocks, i)
			}
		}
		if tree.Matches(int64(blocks*BlockSize), data[:BlockSize]) || tree.Matches(-1, data[:BlockSize]) {
			t.Errorf("%d blocks: a block outside matches", blocks)
		}
		header, err := ReadHeader(bytes.NewReader(text))
		if err != nil || header.TreeSize() != int64(len(text)) {
			t.Errorf("%d blocks: the tree's size is %d, %v; want %d", blocks, header.TreeSize(), err, len(text))
		}
	}
}

// Every byte of a tree counts: of the superblock what is used, and all that follows.
func TestReadFindsEveryWrongByte(t *testing.T) {
	_, text, hash := made(t, 200, nil)
	for _, at := range []int{64, 90, BlockSize, BlockSize + 63, 2 * BlockSize, 2*BlockSize + 100*32, len(text) - 1} {
		wrong := bytes.Clone(text)
		wrong[at] ^= 1
		if _, err := Read(bytes.NewReader(wrong), hash); err == nil {
			t.Errorf("byte %d changed: no error", at)
		}
	}
	if _, err := Read(bytes.NewReader(text[:len(text)-1]), hash); err == nil || !strings.Contains(err.Error(), "reading level 1") {
		t.Errorf("cut off: have %v", err)
	}
	hash[0] ^= 1
	if _, err := Read(bytes.NewReader(text), hash); !errors.Is(err, ErrMismatch) {
		t.Errorf("another root hash: have %v", err)
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	_, large, _ := made(t, 4, func(p *verity.Params) { p.HashBlockSize, p.HashAreaOffset = 8192, 8192 })
	_, sha512, _ := made(t, 4, func(p *verity.Params) { p.HashName = "sha512" })
	_, huge, _ := made(t, 4, nil)
	copy(huge[72:], "\xff\xff\xff\xff\xff\xff\xff\x7f")
	for name, text := range map[string][]byte{"blocks of 8 KiB": large, "sha512": sha512, "too much data": huge, "a page": []byte("<html>404</html>"), "nothing": nil} {
		if _, err := ReadHeader(bytes.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
