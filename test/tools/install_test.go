//go:build tools

package tools_test

import (
	"context"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/firstboot/install"
	set "github.com/kiln-os/kiln/internal/install"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// noFirmware is a machine that was not started by UEFI.
type noFirmware struct{}

// List implements install.Firmware.
func (noFirmware) List() ([]string, error) { return nil, install.ErrNoFirmware }

// Read implements install.Firmware.
func (noFirmware) Read(string) ([]byte, error) { return nil, fs.ErrNotExist }

// Write implements install.Firmware.
func (noFirmware) Write(string, []byte) error { return install.ErrNoFirmware }

// noLoader leaves no system: the test's own goes on.
type noLoader struct{}

// Load implements install.Loader.
func (noLoader) Load(context.Context, string, int) error { return nil }

// Leave implements install.Loader.
func (noLoader) Leave(context.Context, string) error { return nil }

// checkInstalled lets the installer write the live set in a directory to a disk over HTTP, and other people's programs read it.
func checkInstalled(t *testing.T, b built, dir string) {
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	base, err := url.Parse(server.URL)
	must(t, err)
	const size = 12 << 30
	disk := filepath.Join(t.TempDir(), "disk.raw")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, size))
	rule, err := disks.ParseRule("serial:target")
	must(t, err)
	lives := false
	i := &install.Installer{
		Request: install.Request{
			Rule: rule, Boot: install.BootReboot, SHA256: sum(t, filepath.Join(dir, set.File)), Node: "node-1", Cluster: "kiln",
			Carry: carried.Document{From: base.String(), Files: map[string][]byte{nodefs.IdentityFile: []byte("kind: Identity\n")}},
		},
		Source:     install.Server{Base: base, Client: server.Client()},
		Disks:      func() []disks.Disk { return []disks.Disk{{Path: disk, Serial: "target", Size: size}} },
		Open:       install.Open,
		HasJournal: func(context.Context, string, int) (bool, error) { return lives, nil },
		Firmware:   noFirmware{},
		Loader:     noLoader{},
		Say:        func(step, text string) { t.Logf("%s: %s", step, text) },
		Now:        time.Now,
	}
	runs(t, i.Looking())
	runs(t, i.Doing())
	if text, err := b.peer(t, "sgdisk", "-v", disk); err != nil || !strings.Contains(text, "No problems found") {
		t.Errorf("sgdisk -v: %v\n%s", err, text)
	}
	table := partitionTable(t, b, disk)
	checkTable(t, b, table)
	if text, err := b.peer(t, "fsck.fat", "-n", cut(t, disk, table[nodefs.LabelESP])); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, text)
	}
	if text, err := b.peer(t, "veritysetup", "verify", cut(t, disk, table[nodefs.LabelRootA]), cut(t, disk, table[nodefs.LabelRootAVerity]), b.RootHash); err != nil {
		t.Errorf("veritysetup: %v\n%s", err, text)
	}
	if table[nodefs.LabelInstall].Size != carried.Size {
		t.Errorf("the partition of the identity has %d bytes", table[nodefs.LabelInstall].Size)
	}

	// As the initramfs does at the first boot, but for the filesystem.
	definitions := t.TempDir()
	must(t, os.WriteFile(filepath.Join(definitions, "50-state.conf"), []byte("[Partition]\nType="+plan.TypeState+"\nLabel="+nodefs.LabelState+"\nSizeMinBytes=8G\n"), 0o644))
	if text, err := b.peer(t, "systemd-repart", "--dry-run=no", "--empty=refuse", "--definitions="+definitions, "--seed=random", "--no-pager", "--discard=no", disk); err != nil {
		t.Fatalf("systemd-repart: %v\n%s", err, text)
	}
	if partitionTable(t, b, disk)[nodefs.LabelState].Size < 8<<30 {
		t.Error("there is no state partition")
	}
	lives = true
	if said := runs(t, i.Looking()); !strings.Contains(said, "it is the node's") {
		t.Errorf("of a node's disk the installer says: %s", said)
	}
}

// runs runs an installer's steps, and returns what the last one said.
func runs(t *testing.T, list step.List) (last string) {
	t.Helper()
	for _, s := range list {
		said, err := s.Run(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		t.Logf("%s: %s", s.Name, said)
		last = said
	}
	return last
}
