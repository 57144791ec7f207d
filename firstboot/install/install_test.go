package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/internal/document"
)

func TestInstallBlank(t *testing.T) {
	for _, sector := range []int64{512, 4096} {
		t.Run(fmt.Sprint(sector), func(t *testing.T) {
			w := newWorld(t)
			w.sector = sector
			w.mustRun(wholeInstallation...)
			w.checkWhole()
			if want := []string{"load /dev/sda 1", "kexec"}; !slices.Equal(w.loader.asked, want) {
				t.Errorf("the loader was asked %v; want %v", w.loader.asked, want)
			}
			// Booted from the network again, the machine boots its disk, and nothing is written.
			before := w.disk.writes
			w.mustRun(bootOnly...)
			w.journal = true
			w.mustRun(bootOnly...)
			if w.disk.writes != before {
				t.Errorf("%d writes to an installed disk", w.disk.writes-before)
			}
		})
	}
}

func TestResult(t *testing.T) {
	w := newWorld(t)
	i := w.installer()
	i.disk.Path = "/dev/sda"
	if have, want := i.Result(), "/dev/sda holds cp1; booting it"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
	if names, want := i.All().Names(), append([]string{"install-set", "install-disk"}, wholeInstallation...); !slices.Equal(names, want) {
		t.Errorf("steps are %v; want %v", names, want)
	}
}

// The power goes at every single write, with a cache that loses any part of what was not synced; then the machine is
// started again.
func TestPowerCutAnywhere(t *testing.T) {
	w := newWorld(t)
	w.mustRun(wholeInstallation...)
	w.disk.left = 1 << 30
	w.disk.bytes = make([]byte, diskSize)
	w.mustRun(wholeInstallation...)
	operations := 1<<30 - w.disk.left
	if operations < 20 {
		t.Fatalf("an installation has only %d operations", operations)
	}
	whole := w.disk.bytes
	for _, old := range []string{"blank", "joined"} {
		for n := range operations {
			w.disk = newMemoryDisk()
			w.journal, w.request.Wipe, w.request.Node = false, "", "cp1"
			if old == "joined" {
				copy(w.disk.bytes, whole)
				w.journal, w.request.Wipe = true, "now"
			}
			w.disk.left, w.disk.loses = n, rand.New(rand.NewPCG(uint64(n), 1))
			if _, err := w.run(); !errors.Is(err, errCut) {
				t.Fatalf("%s: power gone after %d operations: error is %v", old, n, err)
			}
			w.disk.left = -1
			r, err := readRecord(w.target())
			if err != nil {
				t.Fatal(err)
			}
			entries, _, err := readTable(w.target())
			if err != nil {
				t.Fatal(err)
			}
			// A state partition of before is gone with its table.
			w.journal = old == "joined" && len(entries) > 0 && r.State != writing && r.Wipe == ""
			if old == "joined" && r.State == began && len(entries) > 0 {
				w.journal = true
			}
			if r != nil && r.State == finished && r.Wipe == w.request.Wipe && r.Node == "cp1" {
				// Only the answer to the very last write was lost.
				if n < operations-1 {
					t.Fatalf("%s: finished, but the power went after %d of %d operations", old, n, operations)
				}
				w.mustRun(bootOnly...)
				w.checkWhole()
				continue
			}
			if len(entries) > 0 && r.State == writing {
				w.checkContents()
			}
			w.mustRun(wholeInstallation...)
			w.checkWhole()
		}
	}
}

// checkContents wants everything in place, as it has to be once there is a table.
func (w *world) checkContents() {
	w.t.Helper()
	for _, p := range w.manifest.Disk.Partitions {
		if b, ok := w.manifest.Blob(p.Content); ok {
			if err := verifyBlob(w.t.Context(), w.target(), p.Offset, b); err != nil {
				w.t.Errorf("there is a partition table already: %s", err)
			}
		}
	}
}

func TestDecisions(t *testing.T) {
	put := func(at int, text string) func(w *world) { return func(w *world) { copy(w.disk.bytes[at:], text) } }
	installed := func(then func(w *world)) func(w *world) {
		return func(w *world) {
			w.mustRun(wholeInstallation...)
			then(w)
		}
	}
	for _, row := range []struct {
		name string
		// before is what happened to the disk, and what is asked for now.
		before func(w *world)
		want   []string
		// refused is part of the error; empty wants none.
		refused string
	}{
		{"flash that was erased", func(w *world) { w.disk.bytes = bytes.Repeat([]byte{0xff}, diskSize) }, wholeInstallation, ""},
		{"a filesystem", put(1080, "\x53\xef"), nil, "the disk holds an ext filesystem; choose another disk"},
		{"a partition table of old", put(510, "\x55\xaa"), nil, "an MBR partition table or a boot sector"},
		{"something at the end", put(diskSize-4096, "\xfc\x4e\x2b\xa9"), nil, "bytes that are none of kiln's"},
		{"something unknown", put(200000, "x"), nil, "bytes that are none of kiln's"},
		{"a filesystem that may be wiped", func(w *world) { put(1080, "\x53\xef")(w); w.request.Wipe = "yes" }, wholeInstallation, ""},
		{"a disk with an image of kiln's that nobody installed", installed(func(w *world) { clear(w.disk.bytes[recordOffset:][:recordSlots*recordSize]) }), nil, `a partition table with "esp" (2MiB)`},
		{"the same of a joined node", installed(func(w *world) {
			clear(w.disk.bytes[recordOffset:][:recordSlots*recordSize])
			w.addState()
			w.journal = true
		}), nil, "the disk holds a kiln node"},
		{"another node", installed(func(w *world) { w.addState(); w.journal = true; w.request.Node = "w7" }), nil, "the disk holds the node cp1 of the cluster demo"},
		{"another cluster", installed(func(w *world) { w.addState(); w.journal = true; w.request.Cluster = "prod" }), nil, "the node cp1 of the cluster demo"},
		{"a state that cannot be read", installed(func(w *world) { w.addState(); w.journalErr = errors.New("bad magic") }), nil, "whether it is a node cannot be told: bad magic"},
		{"a node, and another image", installed(func(w *world) { w.addState(); w.journal = true; w.makeSet("two") }), bootOnly, ""},
		{"a node, and another token", installed(func(w *world) {
			w.addState()
			w.journal = true
			w.request.Carry.Files = map[string][]byte{"identity.yaml": []byte("other")}
		}), bootOnly, ""},
		{"never a node, and another image", installed(func(w *world) { w.makeSet("two") }), wholeInstallation, ""},
		{"never a node, and another identity", installed(func(w *world) { w.request.Carry.Files = map[string][]byte{"identity.yaml": []byte("other")} }), []string{"install-identity", "install-boot"}, ""},
		{"never a node, and it carries nothing any more", installed(func(w *world) { clear(w.disk.bytes[7*mib:][:carried.Size]) }), []string{"install-identity", "install-boot"}, ""},
		{"never a node, and another name", installed(func(w *world) { w.request.Node = "cp2" }), []string{"install-identity", "install-boot"}, ""},
		{"a node, no identity now", installed(func(w *world) {
			w.addState()
			w.journal = true
			w.request.Node, w.request.Cluster = "", ""
		}), bootOnly, ""},
		{"a node that may be wiped", installed(func(w *world) { w.addState(); w.journal = true; w.request.Wipe = "again" }), wholeInstallation, ""},
		{"an interrupted installation that became a node", installed(func(w *world) {
			w.addState()
			w.journal = true
			if err := w.installer().record(writing).write(w.target()); err != nil {
				w.t.Fatal(err)
			}
		}), bootOnly, ""},
		{"began, and the word for wiping was taken back", func(w *world) {
			put(1080, "\x53\xef")(w)
			w.request.Wipe = "yes"
			w.disk.left = 2
			if _, err := w.run(); !errors.Is(err, errCut) {
				w.t.Fatal(err)
			}
			w.disk.left, w.request.Wipe = -1, ""
		}, nil, "an ext filesystem"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			row.before(w)
			if row.refused == "" {
				w.mustRun(row.want...)
				if len(row.want) > 1 {
					w.checkWhole()
				}
				return
			}
			before := bytes.Clone(w.disk.bytes)
			names, err := w.run()
			if err == nil || !strings.Contains(err.Error(), row.refused) || !document.IsInvalid(err) {
				t.Errorf("error is %v; want %q", err, row.refused)
			}
			if len(names) != 2 || !bytes.Equal(before, w.disk.bytes) {
				t.Errorf("a refused disk was written: %v", names)
			}
		})
	}
}

// addState gives the disk a state partition, as the first boot does.
func (w *world) addState() {
	w.t.Helper()
	disk := w.installer()
	disk.manifest = w.manifest
	whole := disk.whole()
	state := whole.Partitions[0]
	state.Label, state.ID, state.Offset, state.Size, state.Content = "kiln-state", "c12a7328-f81f-11d2-ba4b-000000000099", whole.End(), 4*mib, ""
	whole.Partitions = append(whole.Partitions, state)
	all, err := newTable(whole, diskSize, w.sector, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	copy(w.disk.bytes[all.entries.offset:], all.entries.bytes)
	copy(w.disk.bytes, all.head.bytes)
}

// A word wipes once: the disk remembers it.
func TestWipeOnce(t *testing.T) {
	w := newWorld(t)
	w.mustRun(wholeInstallation...)
	w.addState()
	w.journal, w.request.Wipe = true, "ticket 1"
	w.mustRun(wholeInstallation...)
	w.addState()
	w.mustRun(bootOnly...)
	w.makeSet("two")
	w.mustRun(bootOnly...)
	w.request.Node = "cp2"
	if _, err := w.run(); err == nil || !strings.Contains(err.Error(), `wipe: is "ticket 1", which has wiped this disk before`) {
		t.Errorf("error is %v", err)
	}
	w.request.Wipe = "ticket 2"
	w.mustRun(wholeInstallation...)
	w.checkWhole()
}

func TestDiskIsPickedByRule(t *testing.T) {
	for _, row := range []struct {
		rule, want string
		change     func(w *world)
	}{
		{"serial:S9", "no disk fits the rule serial:S9; the machine's disks:\n  path:/dev/sda serial:S1 size:16MiB\n  path:/dev/sdb serial:S2", nil},
		{"serial:S*", "2 disks fit the rule serial:S* (/dev/sda, /dev/sdb)", nil},
		{"serial:S1", "/dev/sda has 16MiB, and the image needs 64MiB", func(w *world) {
			w.manifest.Disk.Size = 64 * mib
			w.writeManifest()
		}},
	} {
		t.Run(row.want, func(t *testing.T) {
			w := newWorld(t)
			rule, err := disks.ParseRule(row.rule)
			if err != nil {
				t.Fatal(err)
			}
			w.request.Rule = rule
			if row.change != nil {
				row.change(w)
			}
			if _, err := w.run(); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %v; want %q", err, row.want)
			}
			if w.disk.writes != 0 {
				t.Error("something was written")
			}
		})
	}
}

// writeManifest writes install.json again after a change.
func (w *world) writeManifest() {
	w.t.Helper()
	text, err := w.manifest.Render()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.set, "install.json"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.sha256 = blob("", text).SHA256
	w.request.SHA256 = w.sha256
}

func TestBadSets(t *testing.T) {
	change := func(file string, edit func(raw []byte) []byte) func(w *world) {
		return func(w *world) {
			path := filepath.Join(w.set, file)
			raw, err := os.ReadFile(path)
			if err != nil {
				w.t.Fatal(err)
			}
			if err := os.WriteFile(path, edit(raw), 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	flip := func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw }
	half := func(raw []byte) []byte { return raw[:len(raw)/2] }
	for _, row := range []struct {
		name   string
		change func(w *world)
		want   string
	}{
		{"changed manifest", change("install.json", flip), "but the kernel command line wants"},
		{"no digest", func(w *world) { w.request.SHA256 = "" }, "kernel command line: kiln.install.sha256: is missing"},
		{"flipped bit", change("root.img", flip), "reading root.img: its SHA-256 is"},
		{"half a file", change("root.img", half), "reading root.img: it ends too early: after 526336 of 1052672 bytes"},
		{"longer", change("root.img", func(raw []byte) []byte { return append(raw, 'x') }), "it has more than the 1052672 bytes"},
		{"damaged zstd", change("esp.img.zst", half), "reading esp.img.zst: "},
		{"no zstd", change("esp.img.zst", func([]byte) []byte { return []byte("<html>not found</html>") }), "reading esp.img.zst: "},
		{"boot code", change("boot.bin", flip), "reading boot.bin: its SHA-256 is"},
		{"medium gone", func(w *world) {
			if err := os.Remove(filepath.Join(w.set, "root.verity")); err != nil {
				w.t.Fatal(err)
			}
		}, "opening root.verity: open "},
		{"tree of another root", func(w *world) {
			raw := noise("other", mib+4096)
			change("root.img", func([]byte) []byte { return raw })(w)
			w.manifest.Root = blob("root.img", raw)
			w.writeManifest()
		}, "verifying the hash tree: the root on /dev/sda has the root hash"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			row.change(w)
			if _, err := w.run(); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %v; want %q", err, row.want)
			}
			if _, ok, err := readTable(w.target()); ok || err != nil {
				t.Errorf("the disk has a partition table, %v", err)
			}
			if len(w.loader.asked) > 0 {
				t.Errorf("the disk was booted: %v", w.loader.asked)
			}
		})
	}
}

// lyingDisk forgets one write, as a bad disk does.
type lyingDisk struct {
	*memoryDisk
	at int64
}

func (d *lyingDisk) WriteAt(p []byte, at int64) (int, error) {
	if at <= d.at && d.at < at+int64(len(p)) {
		p = bytes.Clone(p)
		p[d.at-at] ^= 1
	}
	return d.memoryDisk.WriteAt(p, at)
}

func TestBadDisk(t *testing.T) {
	for name, row := range map[string]struct {
		at   int64
		want string
	}{
		"in the ESP":      {mib + 77777, "reading back esp.img.zst: /dev/sda has other bytes than were written to it"},
		"in the root":     {3*mib + 5, "reading back root.img"},
		"in the tree":     {5*mib + 5000, "reading back root.verity"},
		"in the identity": {7*mib + 4100, "reading back the identity"},
		"in the table":    {1030, "reading back the partition table"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			i := w.installer()
			i.Open = func(string, bool) (*Target, error) {
				target := w.target()
				target.Storage = &lyingDisk{w.disk, row.at}
				return target, nil
			}
			if _, err := each(i.Looking(), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := each(i.Doing(), nil); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %v; want %q", err, row.want)
			}
			if r, err := readRecord(w.target()); err != nil || r == nil || r.State != writing {
				t.Errorf("the record is %+v, %v", r, err)
			}
		})
	}
}

// A step that failed runs again on the same installer, and goes on behind what is done.
func TestRetry(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.set, "root.img")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	i := w.installer()
	if _, err := each(i.Looking(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := each(i.Doing(), nil); err == nil {
		t.Fatal("installed without a root")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	// The ESP was written: it is not read a second time.
	if err := os.Remove(filepath.Join(w.set, "esp.img.zst")); err != nil {
		t.Fatal(err)
	}
	if _, err := each(i.Doing(), nil); err != nil {
		t.Fatal(err)
	}
	w.checkWhole()
}

func TestDiskGoesAway(t *testing.T) {
	w := newWorld(t)
	i := w.installer()
	if _, err := each(i.Looking(), nil); err != nil {
		t.Fatal(err)
	}
	i.Disks = func() []disks.Disk { return []disks.Disk{{Path: "/dev/sdb", Serial: "S1", Size: diskSize}} }
	if _, err := each(i.Doing(), nil); err == nil || !strings.Contains(err.Error(), "picking the disk again: it is path:/dev/sdb") {
		t.Errorf("error is %v", err)
	}
	if w.disk.writes > 0 {
		t.Error("something was written")
	}
}

// A disk that keeps the reader waiting is not a server that has fallen silent.
func TestSilenceIsTheServers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write(bytes.Repeat([]byte("x"), 1<<20))
	}))
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	const silence = 100 * time.Millisecond
	reader, err := Server{Base: base, Client: server.Client(), Silence: silence}.Open(t.Context(), "root.img")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	total := 0
	for _, pause := range []time.Duration{3 * silence, 3 * silence, 0} {
		time.Sleep(pause)
		n, err := io.CopyN(io.Discard, reader, 1<<18)
		if total += int(n); err != nil {
			t.Fatalf("after %d bytes: %v", total, err)
		}
	}
}

func TestServer(t *testing.T) {
	w := newWorld(t)
	mode := ""
	release := make(chan struct{})
	files := http.FileServer(http.Dir(w.set))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case mode == "404":
			http.NotFound(rw, r)
		case mode == "cut" && r.URL.Path == "/root.img":
			rw.Header().Set("Content-Length", "1052672")
			_, _ = rw.Write(noise("root one", 1000))
			rw.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case mode == "silent" && r.URL.Path == "/root.img":
			rw.Header().Set("Content-Length", "1052672")
			_, _ = rw.Write(noise("root one", 1000))
			rw.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-release:
			}
		default:
			files.ServeHTTP(rw, r)
		}
	}))
	defer server.Close()
	defer close(release)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ mode, want string }{
		{"404", "install.json: the server answers 404 Not Found"},
		{"cut", "reading root.img: "},
		{"silent", "reading root.img: " + server.URL + "/root.img: the server has sent nothing for 300ms"},
		{"", ""},
	} {
		t.Run("mode "+row.mode, func(t *testing.T) {
			mode = row.mode
			i := w.installer()
			i.Source = Server{Base: base, Client: server.Client(), Silence: 300 * time.Millisecond}
			_, err := each(i.Looking(), nil)
			if err == nil {
				_, err = each(i.Doing(), nil)
			}
			if row.want == "" && err == nil {
				w.checkWhole()
				return
			}
			if row.want == "" || err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %v; want %q", err, row.want)
			}
		})
	}
}

func TestBootChoices(t *testing.T) {
	for _, row := range []struct {
		boot    string
		refuses error
		asked   []string
		failure string
	}{
		{BootAuto, nil, []string{"load /dev/sda 1", "kexec"}, ""},
		{BootAuto, errors.New("locked down"), []string{"load /dev/sda 1", "reboot"}, ""},
		{BootKexec, errors.New("locked down"), []string{"load /dev/sda 1"}, "loading the installed kernel: locked down"},
		{BootReboot, nil, []string{"reboot"}, ""},
		{BootPowerOff, nil, []string{"poweroff"}, ""},
	} {
		t.Run(fmt.Sprint(row.boot, row.refuses), func(t *testing.T) {
			w := newWorld(t)
			w.request.Boot, w.loader.refuses = row.boot, row.refuses
			_, err := w.run()
			if row.failure == "" && err != nil || row.failure != "" && (err == nil || !strings.Contains(err.Error(), row.failure)) {
				t.Errorf("error is %v; want %q", err, row.failure)
			}
			if !slices.Equal(w.loader.asked, row.asked) {
				t.Errorf("the loader was asked %v; want %v", w.loader.asked, row.asked)
			}
		})
	}
}

func TestWithoutIdentity(t *testing.T) {
	w := newWorld(t)
	w.request.Node, w.request.Cluster, w.request.Carry = "", "", carried.Document{}
	w.mustRun(wholeInstallation...)
	if _, err := carried.Decode(bytes.NewReader(w.disk.bytes[7*mib:])); !errors.Is(err, carried.ErrNone) {
		t.Errorf("error is %v", err)
	}
	// An identity that turns up later is taken to the disk.
	w.request.Node, w.request.Carry = "cp1", carried.Document{Files: map[string][]byte{"identity.yaml": []byte("x")}}
	w.mustRun("install-identity", "install-boot")
	w.checkWhole()
}
