package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with --sign is said before anything is built.
func TestReadSignerRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	for _, row := range []struct {
		sign string
		code int
		want []string
	}{
		{"db.key", 2, []string{"--sign wants two files, as in --sign db.key,db.crt"}},
		{"db.key,", 2, []string{"--sign wants two files"}},
		{",db.crt", 2, []string{"--sign wants two files"}},
		{"a,b,c", 2, []string{"--sign wants two files"}},
		{none + "," + file, 2, []string{"--sign: open " + none}},
		{file + "," + file, 78, []string{file + ": is no private key in PEM form", file + ": is no certificate in PEM form"}},
	} {
		result := kiln(t, "build", "vm-disk", "-p", "worker", "-r", "v1.36", "-o", filepath.Join(dir, "out"), "--cache", filepath.Join(dir, "cache"), "--sign", row.sign)
		if result.code != row.code {
			t.Errorf("--sign %s: exit code %d; want %d", row.sign, result.code, row.code)
		}
		for _, want := range row.want {
			if !strings.Contains(result.err, want) {
				t.Errorf("--sign %s: error is %s\nwant %q in it", row.sign, result.err, want)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("--sign %s: the output directory was made", row.sign)
		}
	}
}
