package ignition

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

const identity = `{"path": "/etc/kiln/identity.yaml", "contents": {"source": "data:,token-of-cluster"}}`

// whole is a config with something for each step.
const whole = `{"ignition": {"version": "3.4.0"},
"passwd": {"users": [{"name": "ops", "passwordHash": "hash-of-ops"}]},
"storage": {
  "files": [` + identity + `, {"path": "/etc/new", "contents": {"source": "data:,x"}}, {"path": "/etc/old", "append": [{"source": "data:,x"}]}],
  "disks": [{"device": "/dev/vdb", "wipeTable": true}],
  "raid": [{"name": "pair", "level": "raid1", "devices": ["/dev/a", "/dev/b"]}],
  "luks": [{"name": "vault", "device": "/dev/secret"}],
  "filesystems": [{"device": "/dev/md/pair", "format": "xfs"}, {"device": "/dev/mapper/vault", "format": "ext4"}]},
"systemd": {"units": [{"name": "a.service", "enabled": true, "contents": "[Install]\nWantedBy=x.target"}, {"name": "b.service", "enabled": false},
  {"name": "c.service", "mask": true}, {"name": "d.service", "dropins": [{"name": "x.conf", "contents": ""}]}]}}`

// kinds shortens the engine's lines to the stage, the kind of storage and what is wiped.
func kinds(ran []string) []string {
	var short []string
	for _, line := range ran {
		if fields := strings.Fields(line); strings.HasPrefix(line, "ignition disks ") {
			line = fields[0] + " " + fields[1] + " " + fields[2]
			for _, wipe := range []string{"wipeTable", "wipeVolume", "wipeFilesystem"} {
				if n := strings.Count(strings.Join(fields, ""), `"`+wipe+`":true`); n > 0 {
					line += " " + wipe + strings.Repeat("+", n-1)
				}
			}
		}
		short = append(short, line)
	}
	return short
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// theEnd is what follows the last stage.
var theEnd = []string{"systemctl --root=/ enable a.service", "systemctl daemon-reload", "systemctl try-restart --no-block a.service",
	"systemctl stop --no-block b.service", "systemctl stop --no-block c.service", "systemctl try-restart --no-block d.service",
	"systemctl start --no-block default.target"}

func TestAppliedOnce(t *testing.T) {
	w := newWorld(t, whole)
	w.write(filepath.Join(w.root, "etc/old"), "old")
	ran, err := w.boot(false)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "first boot", kinds(ran), append([]string{"ignition fetch-offline", "ignition disks disks wipeTable", "ignition disks raid",
		"ignition disks luks", "ignition disks filesystems", "ignition mount", "ignition files", "ignition umount"}, theEnd...)...)
	entries, err := os.ReadDir(filepath.Join(w.root, nodefs.IgnitionState))
	if err != nil || len(entries) != 1 || entries[0].Name() != "done" {
		t.Errorf("what is left: %v, %v; want done and no secret", entries, err)
	}
	if _, err := os.Stat(filepath.Join(w.root, emptyVolumesFile)); err == nil {
		t.Error("empty volumes are still shown")
	}
	ran, err = w.boot(false)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "second boot", ran)
	if all := strings.Join(w.said, "\n"); strings.Contains(all, "token-of-cluster") || strings.Contains(all, "hash-of-ops") || !strings.Contains(all, "user ops") {
		t.Errorf("it said:\n%s", all)
	}
}

func TestIdentityAloneNeedsNoEngine(t *testing.T) {
	w := newWorld(t, `{"ignition": {"version": "3.0.0"}, "storage": {"files": [`+identity+`]}}`)
	ran, err := w.boot(false)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "commands", ran)
	w.read(nodefs.IgnitionDone)
}

func TestTheEngineNeverSeesTheIdentity(t *testing.T) {
	w := newWorld(t, whole)
	w.cut = "ignition mount"
	if _, err := w.boot(false); err == nil {
		t.Fatal("the cut is no error")
	}
	for _, name := range []string{configFile, renderedFile} {
		if text := w.read(nodefs.IgnitionState + "/" + name); strings.Contains(text, "token-of-cluster") || !strings.Contains(text, "/etc/new") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestCutsAnywhere: whatever was cut off is done again, nothing that was done is, and only what an earlier try made is wiped
// without being asked for.
func TestCutsAnywhere(t *testing.T) {
	files := []string{"ignition mount", "ignition files", "ignition umount"}
	for _, tt := range []struct {
		cut  string
		want []string
	}{
		{"ignition fetch-offline", append([]string{"ignition fetch-offline", "ignition disks disks wipeTable", "ignition disks raid", "ignition disks luks", "ignition disks filesystems"}, files...)},
		{"ignition disks disks", append([]string{"ignition disks disks wipeTable", "ignition disks raid", "ignition disks luks", "ignition disks filesystems"}, files...)},
		{"ignition disks raid", append([]string{"ignition disks raid", "ignition disks luks", "ignition disks filesystems"}, files...)},
		{"ignition disks luks", append([]string{"ignition disks luks wipeVolume", "ignition disks filesystems"}, files...)},
		{"ignition disks filesystems", append([]string{"cryptsetup open --key-file=- /dev/secret vault", "stdin key", "ignition disks filesystems wipeFilesystem"}, files...)},
		{"ignition mount", append([]string{"cryptsetup open --key-file=- /dev/secret vault", "stdin key"}, files...)},
		{"ignition files", append([]string{"cryptsetup open --key-file=- /dev/secret vault", "stdin key"}, files...)},
		{"ignition umount", append([]string{"cryptsetup open --key-file=- /dev/secret vault", "stdin key"}, files...)},
		{"enable a.service", nil},
	} {
		t.Run(tt.cut, func(t *testing.T) {
			w := newWorld(t, whole)
			w.write(filepath.Join(w.root, "etc/old"), "old")
			w.write(filepath.Join(w.root, "etc/group"), "groups")
			for _, device := range []string{"/dev/secret", "/dev/md/pair"} {
				w.write(filepath.Join(w.root, device), "")
			}
			w.signatures["/dev/md/pair"] = true // somebody's: it is not wiped, whatever happens
			w.cut = tt.cut
			if _, err := w.boot(false); err == nil {
				t.Fatal("the cut is no error")
			}
			if err := os.RemoveAll(filepath.Join(w.root, "/dev/mapper/vault")); err != nil {
				t.Fatal(err)
			}
			w.cut = ""
			ran, err := w.boot(false)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "the next boot", kinds(ran), append(tt.want, theEnd...)...)
			if got := w.read("etc/new") + " " + w.read("etc/old") + " " + w.read("etc/group"); got != "+ old+ groups+" {
				t.Errorf("files were written twice: %q", got)
			}
		})
	}
}

// TestAnArrayOfACutTryIsStopped: udev assembles it when it sees the members, which may be late. One that was there before the
// first try is somebody's.
func TestAnArrayOfACutTryIsStopped(t *testing.T) {
	for _, before := range []bool{false, true} {
		w := newWorld(t, whole)
		w.write(filepath.Join(w.root, "/dev/a"), "")
		assemble := func() { w.write(filepath.Join(w.root, "/sys/class/block/a/holders/md127"), "") }
		if before {
			w.settled = assemble
		}
		w.cut = "ignition disks raid"
		if _, err := w.boot(false); err == nil {
			t.Fatal("the cut is no error")
		}
		w.settled, w.cut = assemble, ""
		ran, err := w.boot(false)
		if err != nil {
			t.Fatal(err)
		}
		if stopped := ran[0] == "mdadm --stop /dev/md127"; stopped == before {
			t.Errorf("an array that was there before: %v; stopped: %v", before, stopped)
		}
	}
}

func TestAnotherConfigBeginsAnew(t *testing.T) {
	w := newWorld(t, whole)
	w.fail, w.output = "ignition files", "CRITICAL : files: no\n"
	if _, err := w.boot(false); err == nil {
		t.Fatal("the failure is no error")
	}
	w.fail, w.config = "", strings.Replace(whole, `"/etc/new"`, `"/etc/newer"`, 1)
	ran, err := w.boot(false)
	if err != nil {
		t.Fatal(err)
	}
	if ran[0] != "ignition fetch-offline" || !strings.Contains(strings.Join(ran, "\n"), "wipeTable") {
		t.Errorf("ran %q", ran)
	}
}

func TestUpstreamsReport(t *testing.T) {
	w := newWorld(t, whole)
	w.fail = "ignition disks filesystems"
	w.output = `DEBUG    : disks: executing: "useradd" "hash-of-ops"
INFO     : disks: op(1): [finished] waiting for devices
ERROR    : disks: filesystem at "/dev/md/pair" is not of the correct type
CRITICAL : Ignition failed: useradd "hash-of-ops": bad
`
	ran, err := w.boot(false)
	if err == nil {
		t.Fatalf("no error after %q", ran)
	}
	if _, failed := errors.AsType[Failed](err); !failed {
		t.Errorf("a config that cannot be applied would be tried again: %v", err)
	}
	for _, want := range []string{"stage disks ended with exit code 1", `ERROR: disks: filesystem at "/dev/md/pair" is not of the correct type`, `CRITICAL: Ignition failed: useradd "[redacted]": bad`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the report lacks %q:\n%v", want, err)
		}
	}
	if all := err.Error() + strings.Join(w.said, "\n"); strings.Contains(all, "hash-of-ops") || strings.Contains(all, "executing") {
		t.Errorf("it said:\n%s", all)
	}
	if _, err := os.Stat(filepath.Join(w.root, nodefs.IgnitionDone)); err == nil {
		t.Error("a config that failed counts as done")
	}
}

func TestLeftToTheNetwork(t *testing.T) {
	start := "systemctl start --no-block kiln-ignition-network.service"
	w := newWorld(t, whole)
	w.needNet = true
	ran, err := w.boot(false)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "without the network", ran, "ignition fetch-offline", start)
	ran, err = w.boot(true)
	if err != nil {
		t.Fatal(err)
	}
	if ran[0] != "ignition fetch" || ran[len(ran)-1] != theEnd[len(theEnd)-1] || !strings.Contains(strings.Join(ran, "\n"), "networkctl reload") {
		t.Errorf("with the network: %q", ran)
	}

	for _, online := range []bool{false, true} {
		w := newWorld(t, "")
		w.online = online
		ran, err := w.boot(false)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(ran, "\n"); got != map[bool]string{true: start}[online] {
			t.Errorf("nothing found, places on the network %v: %q", online, got)
		}
		if _, err := os.Stat(filepath.Join(w.root, nodefs.IgnitionDone)); err == nil {
			t.Error("a config that was not found counts as applied")
		}
	}
}

func TestWhatTheImageCannotDo(t *testing.T) {
	w := newWorld(t, `{"ignition": {"version": "3.5.0"}, "kernelArguments": {"shouldExist": ["quiet"]},
"storage": {"files": [{"path": "/usr/bin/x"}, {"path": "/data/x"}, {"path": "/etc/x"}], "links": [{"path": "/opt/y", "target": "/etc"}],
 "luks": [{"name": "v", "device": "/dev/v", "clevis": {"tpm2": true}}],
 "filesystems": [{"device": "/dev/a", "path": "/data", "format": "ext4"}, {"device": "/dev/b", "path": "/var/lib", "format": "ext4"}, {"device": "/dev/c", "path": "/var/lib/c", "format": "ext4"}]}}`)
	ran, err := w.boot(false)
	if !document.IsInvalid(err) {
		t.Fatalf("have %v", err)
	}
	same(t, "commands", ran)
	for _, want := range []string{"kernelArguments: cannot be changed", "storage.files[0].path: is /usr/bin/x", "storage.links[0].path: is /opt/y",
		"storage.luks[0].clevis: needs clevis", "storage.filesystems[0].path: is /data", "storage.filesystems[1].path: is /var/lib,"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message lacks %q:\n%v", want, err)
		}
	}
	if n := len(document.List(err)); n != 6 {
		t.Errorf("%d problems, want 6:\n%v", n, err)
	}
}
