package install_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/install"
)

const (
	mib      = 1 << 20
	rootHash = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"
	sum      = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func sample() install.Manifest {
	id := func(n string) string { return "c12a7328-f81f-11d2-ba4b-0000000000" + n }
	return install.Manifest{
		Image: "metal-disk", RootHash: rootHash,
		ESP:    install.Blob{File: "esp.img.zst", Size: 2 * mib, SHA256: sum},
		Root:   install.Blob{File: "root.img", Size: 3*mib + 512, SHA256: sum},
		Verity: install.Blob{File: "root.verity", Size: 4096, SHA256: sum},
		Disk: install.Disk{ID: id("00"), Size: 16 * mib, Partitions: []install.Partition{
			{Label: "esp", Type: id("e0"), ID: id("01"), Offset: mib, Size: 2 * mib, Content: install.ContentESP},
			{Label: "root-a", Type: id("e1"), ID: "00112233-4455-6677-8899-aabbccddeeff", Offset: 3 * mib, Size: 4 * mib, ReadOnly: true, Content: install.ContentRoot},
			{Label: "root-a-verity", Type: id("e2"), ID: "01234567-89ab-cdef-0123-456789abcdef", Offset: 7 * mib, Size: mib, Content: install.ContentVerity},
			{Label: "root-b", Type: id("e1"), ID: id("02"), Offset: 8 * mib, Size: 4 * mib},
			{Label: "kiln-state", Type: id("e3"), ID: id("03"), Offset: 12 * mib, Size: 3 * mib, Content: install.ContentState},
		}},
	}
}

func TestRenderAndParse(t *testing.T) {
	for name, change := range map[string]func(*install.Manifest){
		"UEFI alone": func(*install.Manifest) {},
		"BIOS too": func(m *install.Manifest) {
			m.BIOS = &install.Blob{File: "bios.img", Size: 100, SHA256: sum}
			m.BootCode = &install.Blob{File: "boot.bin", Size: 440, SHA256: sum}
			m.Disk.Partitions[3].Content, m.Disk.Partitions[3].LegacyBoot = install.ContentBIOS, true
		},
		"table to the last byte": func(m *install.Manifest) { m.Disk.Partitions[4].Size = 3 * mib; m.Disk.Size = 16 * mib },
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			change(&m)
			text, err := m.Render()
			if err != nil {
				t.Fatal(err)
			}
			back, err := install.Parse("install.json", text)
			if err != nil {
				t.Fatal(err)
			}
			again, err := back.Render()
			if err != nil || !bytes.Equal(text, again) {
				t.Errorf("came back as\n%s\nnot\n%s (%v)", again, text, err)
			}
		})
	}
}

func TestContents(t *testing.T) {
	m := sample()
	if blob, ok := m.Blob(install.ContentVerity); !ok || blob.File != "root.verity" {
		t.Errorf("verity is %+v, %v", blob, ok)
	}
	if _, ok := m.Blob(install.ContentBIOS); ok {
		t.Error("there is a BIOS part")
	}
	if p, ok := m.Disk.With(install.ContentRoot); !ok || p.Label != "root-a" || p.End() != 7*mib {
		t.Errorf("the root's partition is %+v, %v", p, ok)
	}
	if end := m.Disk.End(); end != 15*mib {
		t.Errorf("the partitions end at %d", end)
	}
}

func TestInvalid(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*install.Manifest)
		want   []string
	}{
		{"overlap", func(m *install.Manifest) { m.Disk.Partitions[1].Offset = 2 * mib },
			[]string{"disk.partitions[1].offset: is 2097152; partition root-a may begin at 3145728"}},
		{"inside another", func(m *install.Manifest) { m.Disk.Partitions[3].Offset = 3 * mib }, []string{"disk.partitions[3].offset: is 3145728"}},
		{"over the table", func(m *install.Manifest) { m.Disk.Partitions[0].Offset = 0 }, []string{"partition esp may begin at 1048576"}},
		{"below zero", func(m *install.Manifest) { m.Disk.Partitions[0].Offset = -mib }, []string{"disk.partitions[0].offset: is -1048576"}},
		{"over the backup", func(m *install.Manifest) { m.Disk.Size = 15*mib + 512 }, []string{"disk.size: is 15729152; the partitions end at 15728640"}},
		{"sum overflows", func(m *install.Manifest) { m.Disk.Partitions[4].Size = 1<<63 - mib }, []string{"disk.partitions[4].size: is 9223372036853727232; want whole MiB"}},
		{"odd offset", func(m *install.Manifest) { m.Disk.Partitions[3].Offset += 512 }, []string{"disk.partitions[3].offset: is 8389120; want whole MiB"}},
		{"no size", func(m *install.Manifest) { m.Disk.Partitions[3].Size = 0 }, []string{"disk.partitions[3].size: is 0; want whole MiB"}},
		{"content too large", func(m *install.Manifest) { m.Root.Size = 4*mib + 1 }, []string{"disk.partitions[1].size: is 4194304; its content, root, has 4194305 bytes"}},
		{"content of nothing", func(m *install.Manifest) { m.Disk.Partitions[3].Content = install.ContentBIOS }, []string{`disk.partitions[3].content: "bios" is nothing that the manifest has`}},
		{"unknown content", func(m *install.Manifest) { m.Disk.Partitions[3].Content = "swap" }, []string{`disk.partitions[3].content: "swap"`}},
		{"content twice", func(m *install.Manifest) { m.Disk.Partitions[3].Content = install.ContentESP }, []string{`disk.partitions[3].content: "esp" is that of disk.partitions[0] too`}},
		{"content nowhere", func(m *install.Manifest) { m.Disk.Partitions[2].Content = "" }, []string{"disk.partitions: none has the content verity"}},
		{"same ID", func(m *install.Manifest) { m.Disk.Partitions[4].ID = m.Disk.Partitions[3].ID }, []string{"disk.partitions[4].id: "}},
		{"same label", func(m *install.Manifest) { m.Disk.Partitions[3].Label = "esp" }, []string{`disk.partitions[3].label: "esp" is that of disk.partitions[0] too`}},
		{"other root hash", func(m *install.Manifest) { m.RootHash = sum }, []string{"the partition with the content root has the ID 00112233-", "the partition with the content verity"}},
		{"long boot code", func(m *install.Manifest) { m.BootCode = &install.Blob{File: "boot.bin", Size: 441, SHA256: sum} }, []string{"bootCode.size: is 441 bytes; the disk's first sector has room for 440"}},
		{"path", func(m *install.Manifest) { m.ESP.File = "../esp.img" }, []string{`esp.file: "../esp.img" is no name of a file`}},
		{"hidden", func(m *install.Manifest) { m.ESP.File = ".." }, []string{`esp.file: ".."`}},
		{"URL", func(m *install.Manifest) { m.ESP.File = "esp?x" }, []string{"esp.file"}},
		{"no digest", func(m *install.Manifest) { m.Verity.SHA256 = strings.ToUpper(sum) }, []string{"verity.sha256: "}},
		{"label too long", func(m *install.Manifest) { m.Disk.Partitions[3].Label = strings.Repeat("x", 37) }, []string{"has 37 characters; want 1 to 36"}},
		{"no GUID", func(m *install.Manifest) { m.Disk.ID = "disk" }, []string{`disk.id: "disk" is no GUID`}},
		{"all at once", func(m *install.Manifest) { m.RootHash, m.ESP.Size, m.Disk.Size = "", 0, 0 }, []string{"rootHash: ", "esp.size: ", "disk.size: "}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := sample()
			row.change(&m)
			text, err := m.Render()
			if err != nil {
				t.Fatal(err)
			}
			_, err = install.Parse("install.json", text)
			for _, want := range row.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v; want %q", err, want)
				}
			}
		})
	}
}

func TestParseIsStrict(t *testing.T) {
	good, err := sample().Render()
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(good, &tree); err != nil {
		t.Fatal(err)
	}
	tree["speed"] = "fast"
	unknown, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                      "the document is empty",
		"<html></html>":         "want a mapping of fields",
		string(unknown):         "speed: unknown field",
		string(good[:200]):      "install.json: not valid YAML",
		`{"kind":"Identity"}`:   `kind: is "Identity"; want Install`,
		`{"apiVersion":"v2"}`:   `apiVersion: is "v2"`,
		`{"disk":{"size":"1"}}`: "disk.size: want a whole number",
	} {
		if _, err := install.Parse("install.json", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error is %v; want %q", text, err, want)
		}
	}
}
