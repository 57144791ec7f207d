//go:build machine

package vm_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// The network of a segment.
const (
	segmentServer = "10.88.0.1"
	segmentNode   = "10.88.0.11"
	segmentMAC    = "52:54:00:4b:00:11"
	segmentTap    = "tap0"
)

// serveWord makes this program an HTTP server of a directory, when the test runs it within a segment.
const serveWord = "serve"

// serve answers on an address from a directory, and writes a line for each request.
func serve(address, directory string) {
	files := http.FileServer(http.Dir(directory))
	log.SetOutput(os.Stdout)
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s %s", r.Method, r.URL.Path, r.RemoteAddr)
		files.ServeHTTP(w, r)
	})))
}

// segment is a network of its own, in a namespace without a name that lives as long as the test: a switch with the test's
// servers on it, and a tap device for a machine. DHCP and TFTP are dnsmasq's, HTTP is this program's.
type segment struct {
	t      *testing.T
	holder *command.Process
	// dir is what the servers serve; requests are on the log http.log beside it.
	dir, logs string
}

// inside starts programs in a segment's network: QEMU with its tap device.
type inside struct {
	command.Exec
	*segment
}

// Start implements vm.Host.
func (i inside) Start(ctx context.Context, c command.Command, detached bool) (*command.Process, error) {
	return i.Exec.Start(ctx, i.wrap(c), detached)
}

func (s *segment) wrap(c command.Command) command.Command {
	c.Name, c.Args = "nsenter", append([]string{"--target=" + strconv.Itoa(s.holder.PID), "--net", "--", c.Name}, c.Args...)
	return c
}

// newSegment makes one that serves the files of a live set. Without root or a program of the host there is none.
func newSegment(t *testing.T, set string) *segment {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and tap devices need root")
	}
	for _, name := range []string{"unshare", "nsenter", "ip", "dnsmasq"} {
		if command.Find(name) == "" {
			t.Skipf("%s is not there: run make deps", name)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("no tap devices: %v", err)
	}
	holder, err := command.Exec{}.Start(t.Context(), command.Command{Name: "unshare", Args: []string{"--net", "sleep", "infinity"}}, false)
	must(t, err)
	t.Cleanup(holder.Kill)
	s := &segment{t: t, holder: holder, dir: t.TempDir(), logs: t.TempDir()}
	s.await("the network namespace", func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", holder.PID))
		return strings.TrimSpace(string(name)) == "sleep"
	})
	files, err := filepath.Glob(filepath.Join(set, "*"))
	must(t, err)
	for _, file := range files {
		must(t, os.Symlink(file, filepath.Join(s.dir, filepath.Base(file))))
	}
	s.wire()
	s.startServers()
	return s
}

// wire makes the switch and the machine's port of it.
func (s *segment) wire() {
	for _, line := range []string{
		"link set lo up", "link add br0 type bridge", "address add " + segmentServer + "/24 dev br0", "link set br0 up",
		"tuntap add " + segmentTap + " mode tap", "link set " + segmentTap + " master br0", "link set " + segmentTap + " up",
	} {
		s.run(command.Command{Name: "ip", Args: strings.Fields(line)})
	}
}

// run runs a program within the segment and returns what it printed.
func (s *segment) run(c command.Command) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	out, err := command.Output(ctx, command.Exec{}, s.wrap(c))
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", c.Name, err, out)
	}
	return string(out)
}

// startServers starts what machines boot from. UEFI over HTTP is told a URL, as kiln's own initramfs is, since it asks the
// same way; PXE gets the unified kernel image by TFTP; and iPXE, whoever loaded it, a script.
func (s *segment) startServers() {
	// Staying what it is, dnsmasq keeps the signal that ends it with this process.
	leases, pid := filepath.Join(s.logs, "leases"), filepath.Join(s.logs, "dnsmasq.pid")
	s.start("dnsmasq.log", command.Command{Name: "dnsmasq", Args: []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--port=0", "--interface=br0", "--bind-interfaces", "--no-ping",
		"--log-facility=-", "--log-dhcp", "--dhcp-authoritative", "--dhcp-leasefile=" + leases, "--pid-file=" + pid,
		"--dhcp-range=" + segmentNode + ",10.88.0.99,1h", "--dhcp-host=" + segmentMAC + "," + segmentNode,
		"--enable-tftp", "--tftp-root=" + s.dir,
		"--dhcp-match=set:ipxe,175",
		"--dhcp-vendorclass=set:http,HTTPClient", "--dhcp-option-force=tag:http,60,HTTPClient", "--dhcp-boot=tag:http,http://" + segmentServer + "/kiln.efi",
		"--dhcp-vendorclass=set:pxe,PXEClient:Arch:00007", "--dhcp-boot=tag:pxe,tag:!ipxe,kiln.efi",
		"--dhcp-boot=tag:ipxe,http://" + segmentServer + "/start.ipxe",
	}})
	s.startHTTP("http.log", segmentServer)
	s.await("dnsmasq", func() bool { _, err := os.Stat(pid); return err == nil })
}

// startHTTP starts an HTTP server of the segment's directory at port 80 of an address.
func (s *segment) startHTTP(log, address string) {
	program, err := os.Executable()
	must(s.t, err)
	s.start(log, command.Command{Name: program, Args: []string{serveWord, address + ":80", s.dir}})
	at := netip.MustParseAddr(address).As4()
	// Listening on port 80, as the kernel writes it.
	listening := fmt.Sprintf("%02X%02X%02X%02X:0050 00000000:0000 0A", at[3], at[2], at[1], at[0])
	s.await("the HTTP server at "+address, func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", s.holder.PID))
		return strings.Contains(string(text), listening)
	})
}

// start starts a server whose output goes to a file.
func (s *segment) start(name string, c command.Command) {
	file, err := os.Create(filepath.Join(s.logs, name))
	must(s.t, err)
	defer file.Close()
	c.Stdout, c.Stderr = file, file
	server, err := command.Exec{}.Start(s.t.Context(), s.wrap(c), false)
	must(s.t, err)
	s.t.Cleanup(func() {
		server.Kill()
		if s.t.Failed() {
			text, _ := os.ReadFile(file.Name())
			s.t.Logf("the end of %s:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
}

// await waits a little for what has to be there before a machine starts.
func (s *segment) await(what string, there func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not there after 10 s", what)
		}
	}
}

// identityOf makes an identity for the segment's machine and serves it below its address. It returns the parameter for it.
func (s *segment) identityOf(w world, name string) string {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "identity")
	w.kiln(s.t, "identity", "new", name, "--address", segmentNode, "--endpoint", segmentNode+":6443", "--release", testedRelease, "-o", dir)
	text, err := os.ReadFile(filepath.Join(dir, "identity.yaml"))
	must(s.t, err)
	must(s.t, os.MkdirAll(filepath.Join(s.dir, "identity"), 0o755))
	must(s.t, os.WriteFile(filepath.Join(s.dir, "identity", segmentMAC), text, 0o644))
	return "kiln.identity=http://" + segmentServer + "/identity/${mac}"
}

// arguments are added to the kernel command line of what iPXE starts.
func (s *segment) arguments(arguments string) {
	script := "#!ipxe\nset kiln-args " + arguments + "\nchain http://" + segmentServer + "/boot.ipxe\n"
	must(s.t, os.WriteFile(filepath.Join(s.dir, "start.ipxe"), []byte(script), 0o644))
}

// requests are the paths that the machine has asked the HTTP server for.
func (s *segment) requests() string {
	text, err := os.ReadFile(filepath.Join(s.logs, "http.log"))
	must(s.t, err)
	return string(text)
}

// boot starts a machine on the segment.
func (s *segment) boot(w world, o vm.Options) *vm.Running {
	s.t.Helper()
	o.Cable.Tap, o.Cable.MAC = segmentTap, segmentMAC
	o.Host = inside{segment: s}
	return w.boot(s.t, o)
}
