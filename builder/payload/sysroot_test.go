package payload

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/builder/parts"
)

// librariesTar is what Debian's package of a library and its headers look like, extracted, and what must not get out.
func librariesTar(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libraries.tar")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	archive := tar.NewWriter(file)
	for _, header := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "./usr/include/x.h", Size: int64(len(version))},
		{Typeflag: tar.TypeReg, Name: "./usr/lib/x86_64-linux-gnu/libx.a"},
		{Typeflag: tar.TypeReg, Name: "./usr/lib/x86_64-linux-gnu/gconv/large.so"},
		{Typeflag: tar.TypeReg, Name: "./usr/lib/linux/uapi/x86/asm/types.h"},
		{Typeflag: tar.TypeSymlink, Name: "./usr/include/x86_64-linux-gnu/asm", Linkname: "../../lib/linux/uapi/x86/asm"},
		{Typeflag: tar.TypeSymlink, Name: "./usr/include/out", Linkname: "../../../etc"},
		{Typeflag: tar.TypeSymlink, Name: "./usr/include/root", Linkname: "/etc"},
		{Typeflag: tar.TypeReg, Name: "./usr/bin/ld"},
	} {
		header.Mode = 0o644
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if _, err := archive.Write([]byte(version)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSysrootHoldsWhatCompilersRead(t *testing.T) {
	dir := t.TempDir()
	if err := unpackSysroot(librariesTar(t, "1"), dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"usr/include/x.h": true, "usr/lib/x86_64-linux-gnu/libx.a": true, "usr/include/x86_64-linux-gnu/asm/types.h": true,
		"usr/lib/x86_64-linux-gnu/gconv": false, "usr/bin": false, "usr/include/out": false, "usr/include/root": false,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}

// TestLibrariesOfTheSuite: a source that names its libraries is linked with them, and built anew when they change; what the
// host has does not matter to it.
func TestLibrariesOfTheSuite(t *testing.T) {
	w := newWorld(t)
	request := w.request()
	for i := range request.Release.Sources {
		if request.Release.Sources[i].Cgo {
			request.Release.Sources[i].Libraries = []string{"libx-dev"}
		}
	}
	version := "1"
	s := Source{Store: parts.Store{Dir: t.TempDir()}, Run: w, PackageTar: func(_ context.Context, packages []string) (string, error) {
		if strings.Join(packages, ",") != "libx-dev" {
			t.Errorf("extracted %v", packages)
		}
		return librariesTar(t, version), nil
	}}
	builds := func() (lines []string) {
		t.Helper()
		w.commands = nil
		if _, err := s.Provide(context.Background(), request); err != nil {
			t.Fatal(err)
		}
		for _, line := range w.commands {
			if strings.HasPrefix(line, "go build") && strings.Contains(line, "example.org/net") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	first := builds()
	if len(first) != 1 || !strings.Contains(first[0], "-buildid= ") {
		t.Fatalf("ran %q, want one that leaves out the build ID, which has the cache's path in it", first)
	}
	flags := strings.Join(w.env[first[0]], "\n")
	for _, want := range []string{"CGO_CFLAGS=-O2 -g0 --sysroot=" + s.Store.Dir, "CGO_LDFLAGS=--sysroot=", "/usr/lib/x86_64-linux-gnu"} {
		if !strings.Contains(flags, want) {
			t.Errorf("the environment lacks %q:\n%s", want, flags)
		}
	}
	// Of two values, the later one counts.
	if last := slices.IndexFunc(w.env[first[0]], func(v string) bool { return v == "CGO_LDFLAGS=" }); last > slices.IndexFunc(w.env[first[0]], func(v string) bool { return strings.HasPrefix(v, "CGO_LDFLAGS=--sysroot") }) {
		t.Errorf("the sysroot is set back: %s", flags)
	}
	writeFile(t, w.libc, "newer libc", 0o644)
	if again := builds(); len(again) != 0 {
		t.Errorf("with another C library of the host it ran %q", again)
	}
	version = "2"
	if again := builds(); len(again) != 1 {
		t.Errorf("with other libraries it ran %q", again)
	}
}
