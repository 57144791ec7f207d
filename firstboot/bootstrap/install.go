package bootstrap

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/firstboot/carried"
	"github.com/kiln-os/kiln/firstboot/disks"
	"github.com/kiln-os/kiln/firstboot/install"
	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// installation is the name under which the journal holds the end of an installation.
const installation = "install"

// live is what the initramfs tells of a live system.
type live struct {
	// Source is the URL of root.img, or where the medium is mounted.
	Source string `json:"source"`
	// Files is the directory with root.img and root.verity: in memory, or the live set's own on the medium.
	Files string `json:"files"`
}

// live tells whether the root is on none of the machine's disks, and where it came from.
func (m *Machine) live() (live, bool) {
	var facts struct {
		Live *live `json:"live"`
	}
	text, err := os.ReadFile(m.Root.Path(nodefs.BootFacts))
	if err != nil || json.Unmarshal(text, &facts) != nil || facts.Live == nil {
		return live{}, false
	}
	return *facts.Live, true
}

// order is what the kernel command line says of installing.
type order struct{ disk, wipe, sha256, pin string }

func (m *Machine) order() order {
	text, _ := os.ReadFile(m.Root.Path("/proc/cmdline"))
	line := string(text)
	o := order{disk: source.Parameter(line, nodefs.ParamInstall), wipe: source.Parameter(line, nodefs.ParamInstallWipe),
		sha256: source.Parameter(line, nodefs.ParamInstallSHA256), pin: source.Parameter(line, nodefs.ParamRootCA)}
	if slices.Contains(strings.Fields(line), nodefs.ParamInstallWipe) && o.wipe == "" {
		o.wipe = "yes"
	}
	return o
}

// installs tells whether the machine is to install itself: only a live system does. An identity that is not there asks for
// nothing.
func (m *Machine) installs(id cluster.Identity) bool {
	_, isLive := m.live()
	return isLive && (id.Install != nil || m.order().disk != "")
}

// installer is the one that the command line and the identity ask for; nil when neither does. What the identity says of
// the disk goes before what the command line says, which many machines may share.
func (m *Machine) installer(f found) (*install.Installer, error) {
	if !m.installs(f.id) {
		return nil, nil
	}
	at, _ := m.live()
	o := m.order()
	request := install.Request{Wipe: o.wipe, SHA256: o.sha256, Node: f.id.Node.Name, Cluster: f.id.Cluster.Name}
	place := document.Problem{File: "kernel command line", Field: nodefs.ParamInstall}
	if i := f.id.Install; i != nil {
		place = document.Problem{File: f.from, Field: "install.disk"}
		o.disk, request.Boot = i.Disk, i.Boot
		if i.Wipe != "" {
			request.Wipe = i.Wipe
		}
	}
	var err error
	if request.Rule, err = disks.ParseRule(o.disk); err != nil {
		place.Text = err.Error()
		return nil, place
	}
	request.Carry = f.carry()
	set, err := m.liveSet(at, o.pin)
	if err != nil {
		return nil, err
	}
	i := m.newInstaller(request)
	i.Source = set
	return i, nil
}

// carry is the identity as the installed system gets it.
func (f found) carry() carried.Document {
	switch {
	case f.ignition != nil:
		return carried.Document{From: f.from, Files: map[string][]byte{nodefs.IgnitionFile: f.ignition}}
	case f.text != nil:
		return carried.Document{From: f.from, Files: map[string][]byte{nodefs.IdentityFile: f.text}}
	}
	return carried.Document{}
}

// liveSet is where the live set is.
func (m *Machine) liveSet(at live, pin string) (install.Source, error) {
	files := install.Directory(m.Root.Path(at.Files))
	address, err := url.Parse(at.Source)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" {
		return files, nil
	}
	check := func(tls.ConnectionState) error { return nil }
	if pin != "" {
		want, err := source.ParsePin(pin)
		if err != nil {
			return nil, document.Problem{File: "kernel command line", Field: nodefs.ParamRootCA, Text: err.Error()}
		}
		check = func(state tls.ConnectionState) error { return want.Check(state.ServerName, state.PeerCertificates) }
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 15 * time.Second,
		DisableCompression:  true,
		// Every byte is compared with a digest that leads back to the kernel command line: whoever sends it need not be
		// trusted. The pin, where there is one, is checked all the same.
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: check},
	}
	return install.Set{Near: files, Far: install.Server{Base: address.JoinPath(".."), Client: &http.Client{Transport: transport}}}, nil
}

// newInstaller is one for the machine that the program runs on.
func (m *Machine) newInstaller(r install.Request) *install.Installer {
	if m.Installer != nil {
		return m.Installer(r)
	}
	return &install.Installer{
		Request:    r,
		Disks:      func() []disks.Disk { return disks.List(m.Root.Path("/sys"), m.Root.Path("/dev")) },
		Open:       install.Open,
		HasJournal: install.HasJournal(m.Root),
		Firmware:   install.Variables{Root: m.Root},
		Loader:     install.Kexec{Root: m.Root, Runner: m.Runner},
		Say:        func(step, text string) { m.Report.say(event{step: step, message: text}) },
		Now:        m.Now,
	}
}

// asInstaller makes f the identity of the machine that is being installed, as far as the live system can tell: an address
// that the machine will have, or a name that its network gives it, may not be there yet, and are found out at its first boot.
func (m *Machine) asInstaller(f found) (found, error) {
	if err := checkMatch(f.id.Node.Match, f.machine); err != nil {
		return f, err
	}
	if f.id.Node.Pool == "" {
		return f, nil
	}
	name, err := memberName(f.id.Node.Name, f.machine)
	if err != nil && IsPermanent(err) {
		return f, err
	}
	if err != nil {
		name = "a member of " + f.id.Node.Pool
	}
	f.id.Node.Name = name
	return f, nil
}

// nobody tells whether err only says that there is no identity on a machine that is installed without one, too.
func (m *Machine) nobody(err error) bool {
	_, nowhere := errors.AsType[*source.NotFound](err)
	return nowhere && m.installs(cluster.Identity{})
}

// install runs the installer's steps, says what became of the disk, and leaves the live system.
func (r *runner) install(ctx context.Context, i *install.Installer) error {
	if err := r.each(ctx, i.Looking()); err != nil {
		return err
	}
	if err := r.each(ctx, i.Doing()); err != nil {
		return err
	}
	seconds := took(r.journal.records)
	if err := r.note(record{Step: installation, State: done, Seconds: seconds, Note: i.Result()}); err != nil {
		return err
	}
	r.m.Report.say(event{step: installation, state: done, seconds: seconds, finished: true, message: i.Result()})
	r.m.Report.status("%s", i.Result())
	r.m.Report.ready()
	if err := i.Leave(ctx); err != nil {
		return fmt.Errorf("the disk is installed: %w", err)
	}
	r.installed = true
	return nil
}
