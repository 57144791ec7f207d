package initramfs

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLabelOf(t *testing.T) {
	at := func(parts map[int]string) string {
		text := make([]byte, 40000)
		for offset, part := range parts {
			copy(text[offset:], part)
		}
		return string(text)
	}
	for want, text := range map[string]string{
		"KILN":     at(map[int]string{32769: "CD001", 32808: "KILN                            "}),
		"config-2": at(map[int]string{1080: "\x53\xef", 1144: "config-2"}),
		"CIDATA":   at(map[int]string{82: "FAT32   ", 71: "CIDATA     "}),
		"STICK":    at(map[int]string{54: "FAT16   ", 43: "STICK      ", 71: "wrong"}),
		"":         at(nil),
	} {
		if have := labelOf(strings.NewReader(text)); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}

func TestOEMStrings(t *testing.T) {
	table := "\x00\x05\x00\x00\x01SeaBIOS\x001.16\x00\x00" + "\x01\x04\x01\x00\x00\x00" + "\x0b\x05\x0e\x00\x02first\x00io.systemd.credential:kiln.identity=x\x00\x00" + "\x7f\x04\xff\x00\x00\x00"
	want := []string{"first", "io.systemd.credential:kiln.identity=x"}
	if have := oemStrings([]byte(table)); !reflect.DeepEqual(have, want) {
		t.Errorf("have %q", have)
	}
	// A table that is cut anywhere ends the search and nothing else.
	for n := range len(table) {
		if have := oemStrings([]byte(table[:n])); len(have) > 2 {
			t.Errorf("cut at %d: have %q", n, have)
		}
	}
	for _, junk := range []string{"\x0b\x00\x00\x00\x00\x00", "\x0b\x03\x00\x00\x00\x00", "\x0b\xff\x00\x00\x00\x00"} {
		if have := oemStrings([]byte(junk)); have != nil {
			t.Errorf("%q: have %q", junk, have)
		}
	}
}

func TestWriteCredential(t *testing.T) {
	for name, tt := range map[string]struct {
		texts []string
		want  string
	}{
		"plain":  {[]string{"other", "io.systemd.credential:kiln.identity=kind: Identity"}, "kind: Identity"},
		"binary": {[]string{"io.systemd.credential.binary:kiln.identity=" + base64.StdEncoding.EncodeToString([]byte("a\nb"))}, "a\nb"},
		"none":   {[]string{"io.systemd.credential:kiln.identity.old=x"}, ""},
	} {
		root := t.TempDir()
		if err := writeCredential(root, tt.texts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		text, err := os.ReadFile(filepath.Join(root, "run/credentials/@system/kiln.identity"))
		if string(text) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: have %q, %v", name, text, err)
		}
	}
	if err := writeCredential(t.TempDir(), []string{"io.systemd.credential.binary:kiln.identity=%"}); err == nil {
		t.Error("what is not base64 is no error")
	}
}

func TestLinkDevice(t *testing.T) {
	root := t.TempDir()
	for _, device := range []string{"/dev/vdb", "/dev/vdc"} {
		if err := linkDevice(root, "by-label", "KILN", device); err != nil {
			t.Fatal(err)
		}
	}
	if err := linkDevice(root, "by-label", "../../x", "/dev/vdd"); err != nil {
		t.Fatal(err)
	}
	if have, err := os.Readlink(filepath.Join(root, "dev/disk/by-label/KILN")); have != "/dev/vdb" {
		t.Errorf("have %q, %v", have, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "dev/x")); err == nil {
		t.Error("a label led out of its directory")
	}
}
