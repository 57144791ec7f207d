package rootfs

import (
	"archive/tar"
	"strings"
	"testing"
)

func TestPick(t *testing.T) {
	theirs := writeTar(t,
		tar.Header{Typeflag: tar.TypeReg, Name: "./usr/sbin/mkfs.x=program", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "./usr/sbin/scrub.x=large", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "./var/lib/dpkg/status=Package: libx\nVersion: 1\n\nPackage: xprogs\nVersion: 2\n", Mode: 0o644})
	ours := writeTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "./var/lib/dpkg/status=Package: a\nVersion: 3\n", Mode: 0o644})
	tree := NewTree(epoch())
	if err := tree.AddTar(ours, func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if err := tree.pick(Pick{Package: "xprogs", Tar: theirs, Files: []string{"/usr/sbin/mkfs.x"}}); err != nil {
		t.Fatal(err)
	}
	if text, err := tree.Read("usr/sbin/mkfs.x"); err != nil || string(text) != "program" || tree.entries["usr/sbin/mkfs.x"].header.Mode != 0o755 {
		t.Errorf("the program: %q, %v", text, err)
	}
	if _, err := tree.Read("usr/sbin/scrub.x"); err == nil {
		t.Error("another file of the package came along")
	}
	if text, _ := tree.Read(status); string(text) != "Package: a\nVersion: 3\n\nPackage: xprogs\nVersion: 2\n" {
		t.Errorf("the packages:\n%s", text)
	}
	for _, wrong := range []Pick{{Package: "xprogs", Tar: theirs, Files: []string{"/usr/sbin/gone"}}, {Package: "yprogs", Tar: theirs}} {
		if err := tree.pick(wrong); err == nil {
			t.Errorf("%+v: no error", wrong)
		}
	}
	if names := strings.Join(tree.Names(), " "); strings.Contains(names, "gone") {
		t.Errorf("the tree has %s", names)
	}
}
