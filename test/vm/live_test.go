//go:build machine && full

package vm_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/seal"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// liveModules are what an image for live boots has in its initramfs.
func liveModules() []string {
	return []string{"virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "isofs", "vfat", "nls_cp437", "nls_iso8859-1", "virtio_net", "bonding", "8021q", "qemu_fw_cfg"}
}

// liveSet finds the sealed root of the built image, and makes an initramfs that can fetch it.
func (w world) liveSet(t *testing.T) (sealed, initramfs string) {
	t.Helper()
	hashes, err := filepath.Glob(filepath.Join(w.kiln(t, "cache", "path"), "parts/sealed-*/roothash"))
	must(t, err)
	for _, file := range hashes {
		text, err := os.ReadFile(file)
		must(t, err)
		if strings.TrimSpace(string(text)) == w.RootHash {
			sealed = filepath.Dir(file)
		}
	}
	if sealed == "" {
		t.Fatalf("no part in the cache is the root %s", w.RootHash)
	}
	initramfs = filepath.Join(t.TempDir(), "initramfs")
	_, err = seal.Initramfs(seal.InitramfsOptions{
		Init: filepath.Join(w.repo, "bin/firstboot"), Root: filepath.Join(filepath.Dir(w.kernel), "tree"), Modules: liveModules(), ImageFile: "live", Out: initramfs,
	})
	must(t, err)
	return sealed, initramfs
}

// imageServer serves a directory and can break what it sends.
type imageServer struct {
	files http.Handler
	mu    sync.Mutex
	// wrong is the byte of root.img that is turned in each answer; -1 is none. cut ends the first answer after that many bytes.
	wrong, cut int64
	https      bool
	ranges     []string
}

func (s *imageServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if filepath.Base(r.URL.Path) != nodefs.LiveRoot {
		s.files.ServeHTTP(w, r)
		return
	}
	text := r.Header.Get("Range")
	s.ranges = append(s.ranges, text)
	begin, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(text, "bytes="), "-"), 10, 64)
	broken := &breaking{ResponseWriter: w, at: begin, wrong: s.wrong, cut: s.cut}
	s.cut = -1
	s.files.ServeHTTP(broken, r)
	if broken.cut >= 0 {
		panic(http.ErrAbortHandler)
	}
}

// breaking is an answer with a wrong byte, or without its end. At is where in the file the next byte belongs.
type breaking struct {
	http.ResponseWriter
	at, wrong, cut int64
}

// Write implements io.Writer.
func (b *breaking) Write(p []byte) (int, error) {
	if b.cut >= 0 && b.at+int64(len(p)) > b.cut {
		return 0, io.ErrShortWrite
	}
	if b.wrong >= b.at && b.wrong < b.at+int64(len(p)) {
		p = append([]byte(nil), p...)
		p[b.wrong-b.at] ^= 1
	}
	n, err := b.ResponseWriter.Write(p)
	b.at += int64(n)
	return n, err
}

// live boots a machine without a disk from a server of the image's root, with the arguments in o's.
func (w world) live(t *testing.T, server *imageServer, o vm.Options) *vm.Running {
	t.Helper()
	sealed, initramfs := w.liveSet(t)
	server.files = http.FileServer(http.Dir(sealed))
	httpServer := httptest.NewUnstartedServer(server)
	root := "http://" + vm.Served + "/" + nodefs.LiveRoot
	if server.https {
		httpServer.StartTLS()
		root = fmt.Sprintf("https://%s/%s %s=%x", vm.Served, nodefs.LiveRoot, nodefs.ParamRootCA, sha256.Sum256(httpServer.Certificate().Raw))
	} else {
		httpServer.Start()
	}
	t.Cleanup(httpServer.Close)
	program, err := os.Executable()
	must(t, err)
	o.Server = fmt.Sprintf("%s %s %s", program, forwardWord, httpServer.Listener.Addr())
	o.Kernel, o.Initrd = w.kernel, initramfs
	o.Append = w.CommandLine + " kiln.root=" + root + " " + o.Append
	return w.boot(t, o)
}

// TestLive boots a machine that has no disk at all: the root comes over HTTP, by a connection that breaks once, the state lies in
// memory, and the node becomes Ready with its container images from the layer cache, as on a disk.
func TestLive(t *testing.T) {
	w := newWorld(t)
	identity := w.identity(t, 6443)
	server := &imageServer{wrong: -1, cut: 100 << 20}
	m := w.live(t, server, vm.Options{Dir: w.place(t, "live"), Ignition: filepath.Join(identity, "config.ign")})
	expect(t, m, "the fetch", `fetch-root +[0-9.]+ s .* every block checked`, kernelTime)
	if len(server.ranges) != 2 || !strings.HasPrefix(server.ranges[1], "bytes=") {
		t.Errorf("root.img was asked for with the ranges %q; want one that goes on after the break", server.ranges)
	}
	expect(t, m, "the state", `state +[0-9.]+ s .*in memory`, kernelTime)
	begin := time.Now()
	name, err := m.Console().Ready(t.Context(), firstBootTime, vm.Watch{Say: func(at time.Duration, text string) {
		t.Logf("%7s  %s", vm.Clock(at), text)
	}, Quiet: time.Minute})
	must(t, err)
	t.Logf("%s is Ready after %s", name, vm.Clock(time.Since(begin)))
	mustNotHaveSaid(t, m, "a live node uses a disk", `state: (growing|none on)`)
}

// TestLiveRefusesOneWrongByte: a byte that is wrong each time is named, and nothing of the root is mounted.
func TestLiveRefusesOneWrongByte(t *testing.T) {
	w := newWorld(t)
	server := &imageServer{wrong: 7 << 20, cut: -1}
	m := w.live(t, server, vm.Options{Dir: w.place(t, "live-wrong")})
	expect(t, m, "the end", `THIS NODE DID NOT BOOT. The step "fetch-root" failed`, kernelTime)
	expect(t, m, "the reason", fmt.Sprintf(`fetching http://%s/root.img: the 4096 bytes from byte %d of root.img on are not those of the image.*fetched twice`, vm.Served, 7<<20), kernelTime)
	mustNotHaveSaid(t, m, "the root is mounted", `verity +[0-9.]+ s`)
	if len(server.ranges) != 2 {
		t.Errorf("root.img was asked for %q; want twice", server.ranges)
	}
}
