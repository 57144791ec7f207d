package rootfs

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dumpDir renders a directory as one line a file.
func dumpDir(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir():
			fmt.Fprintf(&out, "%s/\n", rel)
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "%s -> %s\n", rel, target)
		default:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "%v %s %q\n", info.Mode(), rel, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestUnpack(t *testing.T) {
	for _, row := range []struct {
		summary string
		headers []tar.Header
		want    string
		wantErr string
	}{
		{"what packages hold", []tar.Header{
			{Typeflag: tar.TypeSymlink, Name: "./bin", Linkname: "usr/bin"},
			{Typeflag: tar.TypeReg, Name: "./usr/bin/prog=text", Mode: 0o755},
			{Typeflag: tar.TypeLink, Name: "./usr/bin/same", Linkname: "./usr/bin/prog"},
			{Typeflag: tar.TypeReg, Name: "./etc/shadow=secret", Mode: 0o000},
			{Typeflag: tar.TypeDir, Name: "./empty/", Mode: 0o500},
			{Typeflag: tar.TypeChar, Name: "./dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3},
			{Typeflag: tar.TypeReg, Name: "./skipped/file=x", Mode: 0o644},
		}, "bin -> usr/bin\ndev/\nempty/\netc/\n-rw------- etc/shadow \"secret\"\nusr/\nusr/bin/\n-rwxr-xr-x usr/bin/prog \"text\"\n-rwxr-xr-x usr/bin/same \"text\"\n", ""},
		{"names that climb stay below", []tar.Header{
			{Typeflag: tar.TypeReg, Name: "../../escaped=x", Mode: 0o644},
			{Typeflag: tar.TypeReg, Name: "/absolute=x", Mode: 0o644},
		}, "-rw-r--r-- absolute \"x\"\n-rw-r--r-- escaped \"x\"\n", ""},
		{"no file is written through a link", []tar.Header{
			{Typeflag: tar.TypeSymlink, Name: "./out", Linkname: "OUTSIDE"},
			{Typeflag: tar.TypeReg, Name: "./out/file=x", Mode: 0o644},
		}, "", "out: file exists"},
		{"a hard link that climbs", []tar.Header{
			{Typeflag: tar.TypeLink, Name: "./stolen", Linkname: "../outside/secret"},
		}, "", "unpacking stolen"},
		{"the same file twice", []tar.Header{
			{Typeflag: tar.TypeReg, Name: "./a=1", Mode: 0o644}, {Typeflag: tar.TypeReg, Name: "./a=2", Mode: 0o644},
		}, "", "unpacking a: "},
	} {
		t.Run(row.summary, func(t *testing.T) {
			base := t.TempDir()
			outside, dir := filepath.Join(base, "outside"), filepath.Join(base, "tree")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(outside, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for i, header := range row.headers {
				row.headers[i].Linkname = strings.Replace(header.Linkname, "OUTSIDE", outside, 1)
			}
			err := unpack(writeTar(t, row.headers...), dir, func(name string) bool { return !strings.HasPrefix(name, "skipped") })
			switch {
			case row.wantErr != "":
				if err == nil || !strings.Contains(err.Error(), row.wantErr) {
					t.Errorf("error is %v; want %q", err, row.wantErr)
				}
			case err != nil:
				t.Errorf("error is %v", err)
			default:
				if got := dumpDir(t, dir); got != row.want {
					t.Errorf("unpacked\n%s\nwant\n%s", got, row.want)
				}
			}
			if got := dumpDir(t, outside); got != "-rw------- secret \"\"\n" {
				t.Errorf("outside there is now\n%s", got)
			}
		})
	}
}
