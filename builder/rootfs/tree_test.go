package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func epoch() time.Time { return time.Date(2026, 9, 15, 0, 0, 0, 0, time.UTC) }

// writeTar makes a tar file of headers; the text after a regular file's name is its content.
func writeTar(t *testing.T, headers ...tar.Header) string {
	t.Helper()
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, header := range headers {
		name, text, _ := strings.Cut(header.Name, "=")
		header.Name, header.Size = name, int64(len(text))
		header.ModTime = epoch().Add(time.Hour)
		if err := writer.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(writer, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, buffer.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// dump renders a tar as one line an entry: type, mode, owner, name, link, attributes and content.
func dump(t *testing.T, raw []byte) string {
	t.Helper()
	var out strings.Builder
	reader := tar.NewReader(bytes.NewReader(raw))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(epoch()) {
			t.Errorf("%s has the time %s", header.Name, header.ModTime)
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%c %o %d:%d %s", header.Typeflag, header.Mode, header.Uid, header.Gid, header.Name)
		if header.Linkname != "" {
			out.WriteString(" -> " + header.Linkname)
		}
		for name, value := range header.PAXRecords {
			fmt.Fprintf(&out, " %s=%s", name, value)
		}
		fmt.Fprintf(&out, " %q\n", text)
	}
}

func written(t *testing.T, tree *Tree) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := tree.Write(&out, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// packages is a small Debian root with a merged /usr.
func packages(t *testing.T) string {
	return writeTar(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "./bin", Linkname: "usr/bin", Mode: 0o777},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "./var/run", Linkname: "/run", Mode: 0o777},
		// A hard link may stand before what it names by the order of names.
		tar.Header{Typeflag: tar.TypeReg, Name: "./usr/bin/perl=perl", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeLink, Name: "./usr/bin/aperl", Linkname: "./usr/bin/perl", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "./usr/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "./usr/bin/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeDir, Name: "./run/", Mode: 0o755},
		tar.Header{Typeflag: tar.TypeReg, Name: "./usr/bin/ping=ping", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "cap"}},
		tar.Header{Typeflag: tar.TypeReg, Name: "./etc/shadow=root:*", Mode: 0o640, Gid: 42},
		tar.Header{Typeflag: tar.TypeReg, Name: "./etc/fstab=dropped", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "./var/log/dpkg.log=dropped", Mode: 0o644},
		tar.Header{Typeflag: tar.TypeReg, Name: "./var/logs=kept", Mode: 0o644},
	)
}

const wantTree = `5 755 0:0 ./ ""
2 777 0:0 ./bin -> usr/bin ""
0 640 0:42 ./etc/shadow "root:*"
5 755 0:0 ./run/ ""
0 600 0:0 ./run/secret "s"
5 755 0:0 ./srv/ ""
5 755 0:0 ./srv/deep/ ""
0 644 0:0 ./srv/deep/file "new"
5 755 0:0 ./usr/ ""
5 755 0:0 ./usr/bin/ ""
2 777 0:0 ./usr/bin/link -> ../target ""
0 755 0:0 ./usr/bin/perl "other perl"
0 755 0:0 ./usr/bin/ping SCHILY.xattr.security.capability=cap "ping"
0 755 0:0 ./usr/bin/tool "program"
0 644 0:0 ./var/logs "kept"
2 777 0:0 ./var/run -> /run ""
1 755 0:0 ./usr/bin/aperl -> ./usr/bin/perl ""
`

func TestTree(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(tool, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	from := packages(t)
	compose := func() *Tree {
		tree := NewTree(epoch())
		if err := tree.AddTar(from, keep); err != nil {
			t.Fatal(err)
		}
		// Below links, relative and absolute: the file lands in the directory that is meant.
		if err := tree.AddHostFile("/bin/tool", 0o755, tool); err != nil {
			t.Fatal(err)
		}
		tree.AddFile("/var/run/secret", 0o600, []byte("s"))
		tree.AddSymlink("bin/link", "../target")
		tree.AddFile("/usr/bin/perl", 0o755, []byte("other perl"))
		tree.AddFile("srv/deep/file", 0o644, []byte("new"))
		tree.AddDir("/usr/bin", 0o700) // there already, and stays as it is
		tree.AddFile("srv/gone/file", 0o644, nil)
		tree.Remove("/srv/gone")
		return tree
	}
	tree := compose()
	first := written(t, tree)
	if got := dump(t, first); got != wantTree {
		t.Errorf("the tree is\n%s\nwant\n%s", got, wantTree)
	}
	if !bytes.Equal(first, written(t, compose())) {
		t.Error("the same tree has other bytes the second time")
	}
	if text, err := tree.Read("/bin/tool"); err != nil || string(text) != "program" {
		t.Errorf("reading through a link: %q, %v", text, err)
	}
	if _, err := tree.Read("/bin"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading what is no file: %v", err)
	}
	if want := int64(len("root:*snewother perlpingprogramkept")); tree.Size() != want {
		t.Errorf("size is %d; want %d", tree.Size(), want)
	}
}

func TestTreeCountsWhatItWrites(t *testing.T) {
	tree := NewTree(epoch())
	tree.AddFile("a", 0o644, []byte("12345"))
	tree.AddFile("b", 0o644, []byte("678"))
	var count bytes.Buffer
	if err := tree.Write(io.Discard, &count); err != nil || int64(count.Len()) != tree.Size() {
		t.Errorf("counted %d of %d bytes, %v", count.Len(), tree.Size(), err)
	}
}

func TestTreeNoticesAFileThatChanges(t *testing.T) {
	for _, text := range []string{"short", "longer than it was"} {
		host := filepath.Join(t.TempDir(), "host")
		if err := os.WriteFile(host, []byte("as it was"), 0o644); err != nil {
			t.Fatal(err)
		}
		tree := NewTree(epoch())
		if err := tree.AddHostFile("/file", 0o644, host); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(host, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := tree.Write(io.Discard, nil); err == nil || !strings.Contains(err.Error(), "/file of the root") {
			t.Errorf("%q: error is %v", text, err)
		}
	}
}
