package carried_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func document(text string) carried.Document {
	return carried.Document{From: "http://10.0.2.2/identity", Files: map[string][]byte{nodefs.IdentityFile: []byte(text)}}
}

func write(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestThereAndBack(t *testing.T) {
	raw, err := carried.Encode(document("kind: Identity\n"))
	if err != nil || len(raw) != carried.Size {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	again, err := carried.Encode(document("kind: Identity\n"))
	if err != nil || !bytes.Equal(raw, again) {
		t.Errorf("the same document has other bytes, %v", err)
	}
	device := filepath.Join(t.TempDir(), "partition")
	write(t, device, raw)
	back, err := carried.Read(device)
	if err != nil || back.From != "http://10.0.2.2/identity" || string(back.Files[nodefs.IdentityFile]) != "kind: Identity\n" {
		t.Errorf("came back as %+v, %v", back, err)
	}
	if err := carried.Scrub(device); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadFile(device)
	if err != nil || !bytes.Equal(left, make([]byte, carried.Size)) {
		t.Errorf("something is left, %v", err)
	}
	if _, err := carried.Read(device); !errors.Is(err, carried.ErrNone) {
		t.Errorf("error is %v", err)
	}
	if err := carried.Scrub(device); err != nil {
		t.Error(err)
	}
	if err := carried.Scrub(device + ".none"); err != nil {
		t.Error(err)
	}
}

func TestDamaged(t *testing.T) {
	good, err := carried.Encode(document("secret token"))
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		change func(raw []byte) []byte
		want   string
	}{
		"empty":       {func([]byte) []byte { return make([]byte, carried.Size) }, "nothing is carried"},
		"other bytes": {func([]byte) []byte { return bytes.Repeat([]byte("x"), carried.Size) }, "nothing is carried"},
		"flipped bit": {func(raw []byte) []byte { raw[4100] ^= 1; return raw }, "its checksum is wrong"},
		"broken head": {func(raw []byte) []byte { raw[17] = 'x'; return raw }, "it is damaged"},
		"length too long": {func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"length":`), []byte(`"length":9999999999,"x":`), 1)
		}, "it is damaged"},
		"cut": {func(raw []byte) []byte { return raw[:100] }, "reading the carried identity"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := carried.Decode(bytes.NewReader(row.change(bytes.Clone(good))))
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error is %v; want %q", err, row.want)
			}
		})
	}
	if _, err := carried.Encode(document(strings.Repeat("x", carried.Size))); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("error is %v", err)
	}
	if raw, err := carried.Encode(carried.Document{}); err != nil || !bytes.Equal(raw, make([]byte, carried.Size)) {
		t.Errorf("nothing to carry is not empty, %v", err)
	}
}

// Only the disk that the node booted from counts.
func TestDevice(t *testing.T) {
	root := nodefs.Root(t.TempDir())
	for _, disk := range []string{"vda", "vdb"} {
		for number, label := range map[string]string{"2": "root-a", "6": "kiln-install"} {
			at := "/sys/devices/" + disk + "/" + disk + number
			write(t, root.Path(at+"/uevent"), []byte("MAJOR=254\nDEVNAME="+disk+number+"\nPARTN="+number+"\nPARTNAME="+label+"\n"))
			link := root.Path("/sys/class/block/" + disk + number)
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(root.Path(at), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	for device, want := range map[string]string{"/dev/vda2": root.Path("/dev/vda6"), "/dev/vdb2": root.Path("/dev/vdb6"), "/dev/vdc2": "", "": ""} {
		if have := carried.Device(root, device); have != want {
			t.Errorf("beside %q there is %q; want %q", device, have, want)
		}
	}
}
