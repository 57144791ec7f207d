package bootstrap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/firstboot/install"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// A live system without anything to install runs as it is; one that booted from its disk never installs.
func TestWhoInstalls(t *testing.T) {
	const (
		fromDisk = `{"rootHash":"4f1c","rootDevice":"/dev/vda2"}`
		fromHTTP = `{"rootHash":"4f1c","live":{"source":"http://10.0.2.2/kiln/root.img","files":"/run/kiln/live"}}`
		fromISO  = `{"rootHash":"4f1c","live":{"source":"/run/kiln/medium","files":"/run/kiln/medium/kiln"}}`
		asked    = "\ninstall: {disk: \"serial:S1\", wipe: now, boot: reboot}\n"
	)
	for _, row := range []struct {
		name, facts, line, identity string
		// want is part of rule, wipe, boot and source of the request; empty wants none.
		want string
	}{
		{"live, nothing asked", fromHTTP, "", "", ""},
		{"disk, identity asks", fromDisk, "", asked, ""},
		{"disk, command line asks", fromDisk, "kiln.install=serial:S9", "", ""},
		{"identity asks", fromHTTP, "", asked, "serial:S1 now reboot http://10.0.2.2/kiln"},
		{"command line asks", fromISO, "kiln.install=size:>=10GiB", "", "size:>=10GiB   /run/kiln/medium/kiln"},
		{"both ask", fromISO, "kiln.install=size:>=10GiB kiln.install.wipe=later", asked, "serial:S1 now reboot /run/kiln/medium/kiln"},
		{"a bare word for wiping", fromISO, "kiln.install=wwn:1 kiln.install.wipe", "", "wwn:1 yes  "},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.write(nodefs.BootFacts, row.facts)
			w.write("/proc/cmdline", "kiln.platform=qemu "+row.line)
			f := found{text: []byte(identityText + row.identity), from: "test"}
			if err := f.parse(); err != nil {
				t.Fatal(err)
			}
			i, err := w.m.installer(f)
			if err != nil {
				t.Fatal(err)
			}
			have := ""
			if i != nil {
				r := i.Request
				have = strings.Join([]string{r.Rule.String(), r.Wipe, r.Boot, strings.TrimPrefix(i.Source.String(), string(w.root))}, " ")
				if r.Node != "cp1" || r.Cluster != "demo" || !strings.Contains(string(r.Carry.Files[nodefs.IdentityFile]), token) {
					t.Errorf("the request is %+v", r)
				}
			}
			if (row.want == "") != (i == nil) || !strings.HasPrefix(have, row.want) {
				t.Errorf("have %q, want %q", have, row.want)
			}
		})
	}
}

func TestWrongRule(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.BootFacts, `{"live":{"source":"/x","files":"/x"}}`)
	w.write("/proc/cmdline", "kiln.install=first")
	if _, err := w.m.installer(found{}); !document.IsInvalid(err) || !strings.Contains(err.Error(), `kernel command line: kiln.install: "first" is no condition`) {
		t.Errorf("error is %v", err)
	}
}

const smallManifest = `{"apiVersion":"kiln/v1alpha1","kind":"Install","image":"small","rootHash":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeefe",
"esp":{"file":"esp.img","size":512,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
"root":{"file":"root.img","size":8192,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
"verity":{"file":"root.verity","size":8192,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
"disk":{"id":"c12a7328-f81f-11d2-ba4b-000000000001","size":5242880,"partitions":[
{"label":"esp","type":"c12a7328-f81f-11d2-ba4b-00a0c93ec93b","id":"c12a7328-f81f-11d2-ba4b-000000000002","offset":1048576,"size":1048576,"content":"esp"},
{"label":"root-a","type":"c12a7328-f81f-11d2-ba4b-000000000003","id":"00112233-4455-6677-8899-aabbccddeeff","offset":2097152,"size":1048576,"content":"root"},
{"label":"root-a-verity","type":"c12a7328-f81f-11d2-ba4b-000000000004","id":"00112233-4455-6677-8899-aabbccddeefe","offset":3145728,"size":1048576,"content":"verity"}]}}`

// The installer's steps are steps like all others: in the journal, on the console and in the status, and a disk that may
// not be written ends the first boot.
func TestInstallRefused(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.BootFacts, `{"live":{"source":"/x","files":"/x"}}`)
	w.text = identityText + "install: {disk: \"serial:S1\"}\n"
	disk := filepath.Join(t.TempDir(), "disk.raw")
	raw := make([]byte, 16<<20)
	copy(raw[1080:], "\x53\xef")
	if err := os.WriteFile(disk, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(smallManifest))
	var names []string
	w.m.Installer = func(r install.Request) *install.Installer {
		r.SHA256 = hex.EncodeToString(sum[:])
		i := &install.Installer{Request: r, Now: w.m.Now, Open: install.Open, Say: func(string, string) {},
			Disks: func() []disks.Disk { return []disks.Disk{{Path: disk, Serial: "S1", Size: 16 << 20}} }}
		names = i.Doing().Names()
		return i
	}
	// The live set is the test's.
	w.write("/x/install.json", smallManifest)
	err := w.m.Run(t.Context())
	if !document.IsInvalid(err) || !strings.Contains(err.Error(), "step install-disk cannot be done: ") || !strings.Contains(err.Error(), "the disk holds an ext filesystem") {
		t.Fatalf("error is %v", err)
	}
	if strings.Contains(w.out.String(), token) || !strings.Contains(w.out.String(), "install-set: small") {
		t.Errorf("the console says:\n%s", w.out)
	}
	status, err := ReadStatus(w.root)
	if err != nil || status.State != StateFailed || len(status.Steps) != 3 || status.Steps[2].Name != "install-disk" || status.Steps[2].State != StateFailed {
		t.Errorf("the status is %+v, %v", status, err)
	}
	if !slices.Equal(names, []string{"install-boot"}) {
		t.Errorf("before it has looked, an installer would do %v", names)
	}
}

func TestInstallDryRun(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.BootFacts, `{"live":{"source":"http://10.0.2.2/root.img","files":"/x"}}`)
	w.write("/proc/cmdline", "kiln.install=serial:S1")
	for _, text := range []string{identityText, ""} {
		w.text = text
		w.out.Reset()
		if err := w.m.DryRun(t.Context(), w.out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(w.out.String(), "3  install-disk      picks the disk by the rule serial:S1") || strings.Contains(w.out.String(), "kubeadm") {
			t.Errorf("have:\n%s", w.out)
		}
	}
}

// The identity that an installer left counts when nothing on the machine has one, and goes with the node's other secrets.
func TestCarriedIdentity(t *testing.T) {
	w := newWorld(t)
	w.write(nodefs.BootFacts, `{"rootHash":"4f1c","rootDevice":"/dev/vda2"}`)
	w.write("/sys/class/block/vda2/uevent", "DEVNAME=vda2\nPARTNAME=root-a\n")
	w.write("/sys/class/block/vda6/uevent", "DEVNAME=vda6\nPARTNAME=kiln-install\n")
	raw, err := carried.Encode(carried.Document{From: "http://10.0.2.2/id", Files: map[string][]byte{nodefs.IdentityFile: []byte(identityText)}})
	if err != nil {
		t.Fatal(err)
	}
	w.write("/dev/vda6", string(raw))
	ctx := t.Context()
	answer := func(text string, offline bool) source.Source {
		return source.Source{Name: "other", Offline: offline, Find: func(context.Context) (source.Found, error) {
			if text == "" {
				return source.Found{}, source.ErrNothing
			}
			return source.Found{Text: []byte(text)}, nil
		}}
	}
	for _, row := range []struct {
		name    string
		sources []source.Source
		from    string
	}{
		{"nothing else", nil, "identity.yaml, left by the installer, which found it at http://10.0.2.2/id"},
		{"a server", []source.Source{answer("network", false)}, "identity.yaml, left by the installer, which found it at http://10.0.2.2/id"},
		{"an empty stick", []source.Source{answer("", true)}, "identity.yaml, left by the installer, which found it at http://10.0.2.2/id"},
		{"a stick", []source.Source{answer("stick", true)}, "other"},
	} {
		f, err := w.m.search(ctx, source.Search{Sources: row.sources})
		if err != nil || f.From != row.from {
			t.Errorf("%s: from %q, %v; want %q", row.name, f.From, err, row.from)
		}
	}
	if err := w.m.scrubCarried(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(w.read("/dev/vda6"), "Identity") {
		t.Error("the identity is still on the disk")
	}
	f, err := w.m.search(ctx, source.Search{Sources: []source.Source{answer("network", false)}})
	if err != nil || f.From != "other" {
		t.Errorf("afterwards: from %q, %v", f.From, err)
	}
}

// What is in memory is not fetched again; a server that shows another certificate than the pinned one is not asked.
func TestLiveSet(t *testing.T) {
	w := newWorld(t)
	w.write("/run/kiln/live/root.img", "near")
	var asked []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		_, _ = io.WriteString(rw, "far")
	}))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	pin := sha256.Sum256(server.Certificate().Raw)
	at := live{Source: server.URL + "/kiln/root.img", Files: "/run/kiln/live"}
	for _, row := range []struct{ name, pin, file, want string }{
		{"in memory", "", "root.img", "near"},
		{"on the server", "", "install.json", "far"},
		{"pinned", hex.EncodeToString(pin[:]), "install.json", "far"},
		{"wrong pin", strings.Repeat("0", 64), "install.json", "certificate"},
	} {
		set, err := w.m.liveSet(at, row.pin)
		if err != nil {
			t.Fatal(err)
		}
		have := ""
		if reader, err := set.Open(t.Context(), row.file); err != nil {
			have = err.Error()
		} else {
			text, err := io.ReadAll(reader)
			if have = string(text); errors.Join(err, reader.Close()) != nil {
				t.Error(err)
			}
		}
		if !strings.Contains(have, row.want) {
			t.Errorf("%s: have %q, want %q", row.name, have, row.want)
		}
	}
	if !slices.Equal(asked, []string{"/kiln/install.json", "/kiln/install.json"}) {
		t.Errorf("the server was asked %v", asked)
	}
	if _, err := w.m.liveSet(at, "abc"); !document.IsInvalid(err) || !strings.Contains(err.Error(), "kiln.root.ca") {
		t.Errorf("a pin that is none: %v", err)
	}
}
