package install

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/command"
)

// fileDisk is an installation to a plain file, through the same code as to a device.
func fileDisk(t *testing.T, w *world, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	i := w.installer()
	i.Open = func(_ string, write bool) (*Target, error) { return Open(path, write) }
	if _, err := each(i.Looking(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := each(i.Doing(), nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestInstallToFile(t *testing.T) {
	w := newWorld(t)
	path := fileDisk(t, w, diskSize)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.disk.bytes = raw
	w.checkWhole()
}

// Other people's programs have to find nothing wrong with the table, on whichever of them the machine has.
func TestTableByOthers(t *testing.T) {
	w := newWorld(t)
	// An odd number of sectors: the backup lies at the very end.
	path := fileDisk(t, w, diskSize+7*512)
	checks := []struct {
		names []string
		args  []string
		want  []string
	}{
		{[]string{"sgdisk", "/usr/sbin/sgdisk", "/sbin/sgdisk"}, []string{"-v", path}, []string{"No problems found"}},
		{[]string{"sfdisk", "/usr/sbin/sfdisk", "/sbin/sfdisk"}, []string{"--verify", path}, []string{"No errors detected"}},
		{[]string{"parted", "/usr/sbin/parted", "/sbin/parted"}, []string{"-s", "-m", path, "unit", "s", "print"}, []string{":gpt:", ":root-a:", "2048s:"}},
		{[]string{"blkid", "/usr/sbin/blkid", "/sbin/blkid"}, []string{"-p", "-o", "export", path}, []string{"PTTYPE=gpt", "PTUUID=c12a7328-f81f-11d2-ba4b-000000000001"}},
	}
	asked := 0
	for _, check := range checks {
		program := command.Find(check.names...)
		if program == "" {
			t.Logf("there is no %s here", check.names[0])
			continue
		}
		asked++
		out, err := command.Output(context.Background(), command.Exec{}, command.Command{Name: program, Args: check.args})
		if err != nil {
			t.Errorf("%s: %s\n%s", program, err, out)
		}
		for _, want := range check.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not say %q:\n%s", program, want, out)
			}
		}
	}
	if asked == 0 {
		t.Skip("none of sgdisk, sfdisk, parted and blkid is here")
	}
}

func TestBackupTable(t *testing.T) {
	w := newWorld(t)
	w.mustRun(wholeInstallation...)
	first, ok, err := readTable(w.target())
	if !ok || err != nil {
		t.Fatal(err)
	}
	clear(w.disk.bytes[512:1024])
	second, ok, err := readTable(w.target())
	if !ok || err != nil || len(second) != len(first) || second[3] != first[3] {
		t.Errorf("the backup says %+v, %v; want %+v", second, err, first)
	}
	clear(w.disk.bytes[diskSize-512:])
	if _, ok, err := readTable(w.target()); ok || err != nil {
		t.Errorf("there is a table left: %v", err)
	}
}

func TestJunkInsteadOfTable(t *testing.T) {
	for seed := range 200 {
		disk := newMemoryDisk()
		copy(disk.bytes[512:], "EFI PART")
		copy(disk.bytes[520:], noise(string(rune('a'+seed)), 4096))
		w := &world{disk: disk, sector: 512}
		if entries, ok, err := readTable(w.target()); ok || err != nil {
			t.Fatalf("seed %d: junk is a table of %d partitions, %v", seed, len(entries), err)
		}
	}
}

func TestRecordSlots(t *testing.T) {
	w := &world{disk: newMemoryDisk(), sector: 512}
	target := w.target()
	for n, state := range []string{began, writing, finished} {
		if err := (record{State: state, Node: "cp1"}).write(target); err != nil {
			t.Fatal(err)
		}
		if r, err := readRecord(target); err != nil || r == nil || r.State != state || r.Sequence != n+1 {
			t.Errorf("after %s there is %+v, %v", state, r, err)
		}
	}
	// The newest is torn: the one before counts.
	at := recordOffset + 3%recordSlots*recordSize
	clear(w.disk.bytes[at+60 : at+512])
	if r, err := readRecord(target); err != nil || r == nil || r.State != writing {
		t.Errorf("after a torn write there is %+v, %v", r, err)
	}
	if err := (record{Node: strings.Repeat("x", recordSize)}).write(target); err == nil {
		t.Error("a record was written that does not fit")
	}
}

// Direct reads and writes want aligned memory; callers need not know.
func TestUnalignedMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, make([]byte, mib), 0o600); err != nil {
		t.Fatal(err)
	}
	target, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	text := noise("x", 4097)[1:]
	if err := put(target, piece{8192, text}); err != nil {
		t.Fatal(err)
	}
	have := make([]byte, 4097)[1:]
	if err := readFull(target, have, 8192); err != nil || !bytes.Equal(have, text) {
		t.Errorf("came back otherwise, %v", err)
	}
	if err := readFull(target, have, mib-512); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("reading beyond the end: %v", err)
	}
}
