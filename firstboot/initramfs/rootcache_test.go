package initramfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCache(t *testing.T) {
	set := t.TempDir()
	hash := liveSet(t, set)
	cache := func(t *testing.T, size int64) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "partition")
		if err := os.WriteFile(path, []byte(strings.Repeat("what was there before ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(t *testing.T, path string, hash []byte) error {
		t.Helper()
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		tree, treeSize, err := readCache(file, hash)
		if err == nil && (tree.DataSize() != 3*4096 || treeSize != 2*4096) {
			t.Errorf("data has %d bytes, the tree %d", tree.DataSize(), treeSize)
		}
		return err
	}
	whole := cache(t, 4<<20)
	if err := read(t, whole, hash); err == nil {
		t.Error("what was there before is taken for the root")
	}
	if err := writeCache(whole, set); err != nil {
		t.Fatal(err)
	}
	if err := read(t, whole, hash); err != nil {
		t.Errorf("what was written is not found: %v", err)
	}
	if err := read(t, whole, make([]byte, 32)); err == nil {
		t.Error("another root's cache is taken")
	}
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	// A byte of the tree, and one of the data: it begins at the first MiB.
	for _, at := range []int{4096 + 5, 1<<20 + 5000} {
		text[at] ^= 1
		if err := os.WriteFile(whole, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := read(t, whole, hash); err == nil {
			t.Errorf("byte %d is wrong: no error", at)
		}
		text[at] ^= 1
	}
	if err := writeCache(cache(t, 1<<20+100), set); err == nil || !strings.Contains(err.Error(), "the root takes") {
		t.Errorf("too small: have %v", err)
	}
}
