package bake

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestPresets(t *testing.T) {
	got := presets(map[string]bool{"b.service": false, "a.service": true, "c.timer": true})
	want := "# Units that the profile enables or disables.\nenable a.service\ndisable b.service\nenable c.timer\n"
	if got != want {
		t.Errorf("presets are\n%s\nwant\n%s", got, want)
	}
}

func TestHashFS(t *testing.T) {
	hash := func(files map[string]string) string {
		tree := fstest.MapFS{}
		for name, text := range files {
			tree[name] = &fstest.MapFile{Data: []byte(text)}
		}
		sum, err := hashFS(tree)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	base := hash(map[string]string{"a": "1", "b/c": "2"})
	if again := hash(map[string]string{"b/c": "2", "a": "1"}); again != base {
		t.Error("the same tree has another digest")
	}
	for what, files := range map[string]map[string]string{
		"another text":         {"a": "1", "b/c": "3"},
		"another name":         {"a": "1", "b/d": "2"},
		"one file more":        {"a": "1", "b/c": "2", "d": ""},
		"one file less":        {"a": "1"},
		"text moved to a name": {"a": "1\nb/c 1\n2"},
	} {
		if hash(files) == base {
			t.Errorf("%s: the digest is the same", what)
		}
	}
}

func TestBootEntry(t *testing.T) {
	got := bootEntry("NAME=Debian\nPRETTY_NAME=\"Debian 13\"\nIMAGE_VERSION=old\nID=debian\n", "v1-abc")
	want := "NAME=Debian\nID=debian\nPRETTY_NAME=\"kiln v1-abc\"\nIMAGE_ID=kiln\nIMAGE_VERSION=v1-abc\n"
	if got != want {
		t.Errorf("the entry is\n%s\nwant\n%s", got, want)
	}
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "a", "b", "to")
	put(t, from, "text")
	if err := link(from, to); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "text" {
		t.Errorf("the link holds %q, %v", text, err)
	}
	if err := link(from+".none", to+"2"); err == nil {
		t.Error("a link to nothing is no error")
	}
}
