package seal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hashed writes data and returns its root hash and hash tree.
func hashed(t *testing.T, data []byte, seed string) (root string, tree []byte) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "data"), filepath.Join(dir, "verity")
	if err := os.WriteFile(in, data, 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := Verity(in, out, seed)
	if err != nil {
		t.Fatal(err)
	}
	if tree, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	return root, tree
}

func TestVerity(t *testing.T) {
	// 300 blocks: the tree has two levels.
	data := bytes.Repeat([]byte("kiln"), 300*VerityBlock/4)
	root, tree := hashed(t, data, "seed")
	if len(root) != 64 || len(tree) != VerityBlock*(1+1+3) {
		t.Errorf("root hash %q, tree of %d bytes; want 32 bytes of hex and a superblock with 4 blocks of hashes", root, len(tree))
	}
	if !bytes.HasPrefix(tree, []byte("verity\x00\x00")) {
		t.Errorf("the tree begins with %q", tree[:8])
	}
	again, sameTree := hashed(t, data, "seed")
	if again != root || !bytes.Equal(sameTree, tree) {
		t.Error("the same data has another tree the second time")
	}
	if other, _ := hashed(t, data, "another seed"); other == root {
		t.Error("the salt does not depend on the seed")
	}
	for _, at := range []int{0, VerityBlock, len(data) / 2, len(data) - 1} {
		flipped := bytes.Clone(data)
		flipped[at] ^= 1
		if other, _ := hashed(t, flipped, "seed"); other == root {
			t.Errorf("a flipped bit of byte %d does not change the root hash", at)
		}
	}
}

func TestVerityWantsWholeBlocks(t *testing.T) {
	in := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(in, make([]byte, VerityBlock+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Verity(in, in+".verity", "seed"); err == nil || !strings.Contains(err.Error(), "not a multiple of 4096") {
		t.Errorf("error is %v", err)
	}
}
