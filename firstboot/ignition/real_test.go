package ignition

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealEngine has upstream's engine write files below a temporary root: KILN_IGNITION names it, `kiln binary ignition` makes
// it.
func TestRealEngine(t *testing.T) {
	engine := os.Getenv("KILN_IGNITION")
	if engine == "" {
		t.Skip("KILN_IGNITION does not name the engine")
	}
	w := newWorld(t, `{"ignition": {"version": "3.0.0"},
"storage": {"files": [`+identity+`, {"path": "/etc/new", "mode": 416, "contents": {"source": "data:,new"}}, {"path": "/etc/old", "append": [{"source": "data:,-more"}]}],
  "directories": [{"path": "/var/lib/d"}], "links": [{"path": "/etc/link", "target": "/etc/new"}]},
"systemd": {"units": [{"name": "a.service", "enabled": true, "contents": "[Install]\nWantedBy=x.target\n"}, {"name": "d.service", "dropins": [{"name": "x.conf", "contents": "[Unit]\n"}]}]}}`)
	w.engine = engine
	w.write(filepath.Join(w.root, "etc/old"), "old")
	w.cut = "umount" // the files are there, and the journal does not know
	if _, err := w.boot(false); err == nil {
		t.Fatal("the cut is no error")
	}
	w.cut = ""
	ran, err := w.boot(false)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"etc/new": "new", "etc/old": "old-more", "etc/link": "new",
		"etc/systemd/system/a.service": "[Install]\nWantedBy=x.target\n", "etc/systemd/system/d.service.d/x.conf": "[Unit]\n"} {
		if path == "etc/link" {
			if target, err := os.Readlink(filepath.Join(w.root, path)); err != nil || target != "/etc/new" {
				t.Errorf("%s leads to %q, %v", path, target, err)
			}
			continue
		}
		if got := w.read(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if info, err := os.Stat(filepath.Join(w.root, "var/lib/d")); err != nil || !info.IsDir() {
		t.Errorf("var/lib/d: %v", err)
	}
	if !strings.Contains(strings.Join(ran, "\n"), "enable a.service") {
		t.Errorf("ran %q", ran)
	}

	w = newWorld(t, `{"ignition": {"version": "3.5.0"}, "storage": {"files": [{"path": "/etc/old", "contents": {"source": "data:,x"}}]}}`)
	w.engine = engine
	w.write(filepath.Join(w.root, "etc/old"), "old")
	if _, err := w.boot(false); err == nil || !strings.Contains(err.Error(), "A file exists there already and overwrite is false") {
		t.Errorf("upstream's report is not in %v", err)
	}
}
