package initramfs

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateMinimum(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int64
		problem    string
	}{
		{"gibibytes", "[Partition]\nLabel=kiln-state\nSizeMinBytes=4G\n", 4 << 30, ""},
		{"mebibytes with spaces", "Label = kiln-state\nSizeMinBytes = 512M\n", 512 << 20, ""},
		{"kibibytes, as the builder writes it", "[Partition]\nType=var\nLabel=kiln-state\nFormat=ext4\nSizeMinBytes=4194304K\n", 4 << 30, ""},
		{"bytes", "Label=kiln-state\nSizeMinBytes=8589934592\n", 8 << 30, ""},
		{"none", "Label=kiln-state\n#SizeMinBytes=4G\n", 0, ""},
		{"too large", "Label=kiln-state\nSizeMinBytes=99999999999999G\n", 0, "too large"},
		{"another partition", "Label=data\nSizeMinBytes=4G\n", 0, "no file in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "50-state.conf"), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := stateMinimum(dir)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("error is %v, want %q", err, c.problem)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %d, %v; want %d", got, err, c.want)
			}
		})
	}
}

func TestReadExt4(t *testing.T) {
	device := make([]byte, 4096)
	if _, err := readExt4(bytes.NewReader(device)); err == nil || !strings.Contains(err.Error(), "no ext4 filesystem") {
		t.Errorf("a blank device: %v", err)
	}
	block := device[1024:]
	binary.LittleEndian.PutUint16(block[0x38:], 0xEF53)
	binary.LittleEndian.PutUint32(block[0x4:], 3)
	binary.LittleEndian.PutUint32(block[0x18:], 2)
	binary.LittleEndian.PutUint32(block[0x150:], 1) // counts only with the feature
	if got, err := readExt4(bytes.NewReader(device)); err != nil || got != (extent{blocks: 3, blockSize: 4096}) {
		t.Errorf("got %+v, %v", got, err)
	}
	binary.LittleEndian.PutUint32(block[0x60:], 0x80)
	if got, err := readExt4(bytes.NewReader(device)); err != nil || got.blocks != 1<<32+3 {
		t.Errorf("with 64 bits: %+v, %v", got, err)
	}
	if _, err := readExt4(bytes.NewReader(device[:1500])); err == nil {
		t.Error("half a superblock was read")
	}
}

func TestGrowExt4LeavesFullOnes(t *testing.T) {
	grown, err := growExt4("/nonexistent", extent{blocks: 1 << 20, blockSize: 4096}, 4<<30+100<<20)
	if grown || err != nil {
		t.Errorf("grown %v, %v", grown, err)
	}
}
