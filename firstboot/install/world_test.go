package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containerd/go-dmverity/pkg/verity"
	"github.com/klauspost/compress/zstd"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/disks"
	manifest "github.com/kiln-os/kiln/internal/install"
	"github.com/kiln-os/kiln/internal/step"
)

const (
	mib      = 1 << 20
	diskSize = 16 * mib
)

// errCut is what a disk says once the power is gone.
var errCut = errors.New("the power is gone")

// memoryDisk is a disk with a cache: what was written since the last Sync may be lost when the power goes.
type memoryDisk struct {
	bytes []byte
	// unsynced has what Sync has not seen, as it was before.
	unsynced []piece
	// left is how many writes and syncs there are until the power goes; negative is for ever.
	left  int
	loses *rand.Rand
	// writes counts writes, all of them.
	writes int
}

func newMemoryDisk() *memoryDisk { return &memoryDisk{bytes: make([]byte, diskSize), left: -1} }

func (d *memoryDisk) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at >= int64(len(d.bytes)) {
		return 0, io.EOF
	}
	n := copy(p, d.bytes[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *memoryDisk) spend() error {
	if d.left == 0 {
		d.lose()
		return errCut
	}
	d.left--
	return nil
}

// lose takes back some of what was not synced, sector by sector.
func (d *memoryDisk) lose() {
	for _, p := range slices.Backward(d.unsynced) {
		for at := 0; at < len(p.bytes); at += 512 {
			if d.loses != nil && d.loses.IntN(2) == 0 {
				copy(d.bytes[p.offset+int64(at):], p.bytes[at:min(at+512, len(p.bytes))])
			}
		}
	}
	d.unsynced = nil
}

func (d *memoryDisk) WriteAt(p []byte, at int64) (int, error) {
	if at%512 != 0 || len(p)%512 != 0 || at < 0 || at+int64(len(p)) > int64(len(d.bytes)) {
		return 0, fmt.Errorf("write of %d bytes at %d", len(p), at)
	}
	d.unsynced = append(d.unsynced, piece{at, bytes.Clone(d.bytes[at:][:len(p)])})
	if err := d.spend(); err != nil {
		return 0, err
	}
	d.writes++
	return copy(d.bytes[at:], p), nil
}

func (d *memoryDisk) Sync() error {
	if err := d.spend(); err != nil {
		return err
	}
	d.unsynced = nil
	return nil
}

// firmware is a table of variables.
type firmware map[string][]byte

func (f firmware) List() ([]string, error) {
	if f == nil {
		return nil, ErrNoFirmware
	}
	return slices.Collect(maps.Keys(f)), nil
}

func (f firmware) Read(name string) ([]byte, error) {
	if value, ok := f[name]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (f firmware) Write(name string, value []byte) error {
	f[name] = bytes.Clone(value)
	return nil
}

// loader writes down what it is asked.
type loader struct {
	refuses error
	asked   []string
}

func (l *loader) Load(_ context.Context, disk string, esp int) error {
	l.asked = append(l.asked, fmt.Sprintf("load %s %d", disk, esp))
	return l.refuses
}

func (l *loader) Leave(_ context.Context, how string) error {
	l.asked = append(l.asked, how)
	return nil
}

// world is a live set and a machine with one disk.
type world struct {
	t        *testing.T
	set      string
	manifest manifest.Manifest
	sha256   string
	disk     *memoryDisk
	sector   int64
	firmware firmware
	loader   *loader
	said     []string
	// journal is what is known of the state partition.
	journal    bool
	journalErr error
	request    Request
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, set: t.TempDir(), disk: newMemoryDisk(), sector: 512, firmware: firmware{}, loader: &loader{}}
	w.makeSet("one")
	rule, err := disks.ParseRule("serial:S1")
	if err != nil {
		t.Fatal(err)
	}
	w.request = Request{Rule: rule, SHA256: w.sha256, Node: "cp1", Cluster: "demo",
		Carry: carried.Document{From: "test", Files: map[string][]byte{"identity.yaml": []byte("kind: Identity\n")}}}
	return w
}

func blob(file string, raw []byte) manifest.Blob {
	sum := sha256.Sum256(raw)
	return manifest.Blob{File: file, Size: int64(len(raw)), SHA256: hex.EncodeToString(sum[:])}
}

// noise is bytes that do not repeat.
func noise(seed string, n int) []byte {
	raw := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(raw)
	return raw
}

// makeSet makes a live set of a small image.
func (w *world) makeSet(seed string) {
	w.t.Helper()
	root, esp := noise("root "+seed, mib+4096), noise("esp "+seed, mib+512)
	put := func(name string, raw []byte) string {
		path := filepath.Join(w.set, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			w.t.Fatal(err)
		}
		return path
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	put("esp.img.zst", encoder.EncodeAll(esp, nil))
	code := noise("code", 440)
	put("boot.bin", code)
	rootHash := makeTree(w.t, put("root.img", root), put("root.verity", nil))
	tree, err := os.ReadFile(filepath.Join(w.set, "root.verity"))
	if err != nil {
		w.t.Fatal(err)
	}
	bootCode := blob("boot.bin", code)
	id := func(n int) string { return fmt.Sprintf("c12a7328-f81f-11d2-ba4b-%012d", n) }
	guid := func(h string) string { return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:] }
	w.manifest = manifest.Manifest{Image: "image " + seed, RootHash: rootHash, ESP: blob("esp.img.zst", esp), Root: blob("root.img", root), Verity: blob("root.verity", tree),
		BootCode: &bootCode,
		Disk: manifest.Disk{ID: id(1), Size: 12 * mib, Partitions: []manifest.Partition{
			{Label: "esp", Type: typeESP, ID: id(2), Offset: mib, Size: 2 * mib, Content: manifest.ContentESP, LegacyBoot: true},
			{Label: "root-a", Type: id(3), ID: guid(rootHash[:32]), Offset: 3 * mib, Size: 2 * mib, ReadOnly: true, Content: manifest.ContentRoot},
			{Label: "root-a-verity", Type: id(4), ID: guid(rootHash[32:]), Offset: 5 * mib, Size: mib, ReadOnly: true, Content: manifest.ContentVerity},
			{Label: "root-b", Type: id(3), ID: id(5), Offset: 6 * mib, Size: mib},
		}}}
	text, err := w.manifest.Render()
	if err != nil {
		w.t.Fatal(err)
	}
	put(manifest.File, text)
	sum := sha256.Sum256(text)
	w.sha256 = hex.EncodeToString(sum[:])
	w.request.SHA256 = w.sha256
}

// makeTree makes the hash tree of a root with the library that the builder uses.
func makeTree(t *testing.T, data, tree string) string {
	t.Helper()
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	params := verity.DefaultParams()
	params.HashName, params.HashType, params.DataBlockSize, params.HashBlockSize = "sha256", 1, treeBlock, treeBlock
	params.DataBlocks, params.HashAreaOffset = uint64(info.Size()/treeBlock), treeBlock
	params.Salt, params.SaltSize = []byte("salt of the test"), 16
	params.UUID[0] = 1
	root, err := verity.Create(&params, data, tree)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(root)
}

// target is the world's disk, opened.
func (w *world) target() *Target {
	return &Target{Path: "/dev/sda", Size: int64(len(w.disk.bytes)), Sector: w.sector, Storage: w.disk, Close: func() error { return nil }}
}

func (w *world) installer() *Installer {
	return &Installer{
		Request: w.request, Source: Directory(w.set),
		Disks: func() []disks.Disk {
			return []disks.Disk{{Path: "/dev/sda", Serial: "S1", Size: diskSize}, {Path: "/dev/sdb", Serial: "S2", Size: diskSize}}
		},
		Open:       func(string, bool) (*Target, error) { return w.target(), nil },
		HasJournal: func(context.Context, string, int) (bool, error) { return w.journal, w.journalErr },
		Firmware:   w.firmware, Loader: w.loader,
		Say: func(step, text string) { w.said = append(w.said, step+": "+text) },
		Now: func() time.Time { return time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC) },
	}
}

// run does all steps once, and names those that it did.
func (w *world) run() ([]string, error) {
	i := w.installer()
	names, err := each(i.Looking(), nil)
	if err != nil {
		return names, err
	}
	if names, err = each(i.Doing(), names); err != nil {
		return names, err
	}
	return names, i.Leave(context.Background())
}

func each(list step.List, names []string) ([]string, error) {
	for _, s := range list {
		names = append(names, s.Name)
		if _, err := s.Run(context.Background()); err != nil {
			return names, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return names, nil
}

// mustRun runs and wants exactly these steps.
func (w *world) mustRun(want ...string) {
	w.t.Helper()
	names, err := w.run()
	if err != nil {
		w.t.Fatal(err)
	}
	if want = append([]string{"install-set", "install-disk"}, want...); !slices.Equal(names, want) {
		w.t.Fatalf("steps are %v; want %v", names, want)
	}
}

var (
	wholeInstallation = []string{"install-write", "install-verify", "install-table", "install-boot"}
	bootOnly          = []string{"install-boot"}
)

// checkWhole compares the disk with the live set.
func (w *world) checkWhole() {
	w.t.Helper()
	t := w.target()
	entries, ok, err := readTable(t)
	if err != nil || !ok || len(entries) != 5 {
		w.t.Fatalf("the table has %d partitions: %v", len(entries), err)
	}
	for name, e := range map[string]entry{"esp.img.zst": entries[0], "root.img": entries[1], "root.verity": entries[2]} {
		b := map[string]manifest.Blob{"esp.img.zst": w.manifest.ESP, "root.img": w.manifest.Root, "root.verity": w.manifest.Verity}[name]
		if sum := sha256.Sum256(w.disk.bytes[e.offset:][:b.Size]); hex.EncodeToString(sum[:]) != b.SHA256 {
			w.t.Errorf("partition %s does not hold %s", e.label, name)
		}
	}
	d, err := carried.Decode(bytes.NewReader(w.disk.bytes[entries[4].offset:][:entries[4].size]))
	if err != nil || string(d.Files["identity.yaml"]) != string(w.request.Carry.Files["identity.yaml"]) || entries[4].label != "kiln-install" {
		w.t.Errorf("%s carries %v, %v", entries[4].label, d.From, err)
	}
	if r, err := readRecord(t); err != nil || r == nil || r.State != finished || r.Manifest != w.sha256 {
		w.t.Errorf("the record is %+v, %v", r, err)
	}
	if !bytes.Equal(w.disk.bytes[:440], noise("code", 440)) {
		w.t.Error("the boot code is not there")
	}
}
