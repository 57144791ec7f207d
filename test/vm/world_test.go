//go:build machine

// Package vm_test is the machine rung: it boots what `kiln build` made in QEMU, and looks at it from the inside and from
// the outside. It needs bin/kiln, bin/firstboot and what make deps installs; kiln makes or gets everything else. Machines
// live below out/test-vm, where their console logs stay. One machine runs at a time.
package vm_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// world is what the tests here share.
type world struct {
	repo string
	// image is the directory with the built image.
	image string
	bake.Manifest
	// qemu and peers are the trees with QEMU, and with programs that make test disks.
	qemu, peers rootfs.Tools
	// kernel is a kernel that boots by itself.
	kernel  string
	kubectl string
	accel   vm.Accel
}

// The release that is tested.
const testedRelease = "v1.36"

// newWorld is a world with the image that most tests boot.
func newWorld(t *testing.T) world {
	t.Helper()
	w := bareWorld(t)
	w.image = w.build(t, "vm-disk", filepath.Join(w.repo, "out/test"))
	var err error
	w.Manifest, err = bake.ReadManifest(w.image)
	must(t, err)
	w.addKernel(t)
	return w
}

// build builds an image for a control plane and returns its directory.
func (w world) build(t *testing.T, image, out string) string {
	t.Helper()
	w.kiln(t, "build", image, "--profile", "control-plane", "--release", testedRelease, "-o", out)
	return out
}

// bareWorld is a world without an image; its kernel and how QEMU runs are known once addKernel was called, after a build.
func bareWorld(t *testing.T) world {
	t.Helper()
	repo, err := filepath.Abs("../..")
	must(t, err)
	for _, name := range []string{"kiln", "firstboot"} {
		if _, err := os.Stat(filepath.Join(repo, "bin", name)); err != nil {
			t.Skipf("bin/%s is not there: run make build", name)
		}
	}
	w := world{repo: repo}
	w.qemu = rootfs.Tools{Dir: w.kiln(t, "cache", "tools", "vm")}
	w.peers = rootfs.Tools{Dir: w.kiln(t, "cache", "tools", "test")}
	w.kubectl = w.kiln(t, "binary", "kubectl", "--release", testedRelease)
	return w
}

// addKernel finds a kernel that boots by itself, and finds out with it how QEMU runs here.
func (w *world) addKernel(t *testing.T) {
	t.Helper()
	cache := w.kiln(t, "cache", "path")
	kernels, err := filepath.Glob(filepath.Join(cache, "parts/kernel-*/vmlinuz"))
	must(t, err)
	if len(kernels) == 0 {
		t.Fatal("a build leaves no kernel in the cache")
	}
	w.kernel = kernels[0]
	accel, why, err := vm.ChooseAccel(t.Context(), vm.Auto, vm.Probe{Tree: w.qemu, Host: command.Exec{}, Kernel: w.kernel, CacheDir: cache})
	must(t, err)
	t.Logf("processors: %s: %s", accel, why)
	w.accel = accel
}

// kiln runs bin/kiln and returns what it printed.
func (w world) kiln(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, command.Command{Name: filepath.Join(w.repo, "bin/kiln"), Args: args, Dir: w.repo, Stderr: os.Stderr})
}

// run runs a program, which may take as long as the longest build, and returns what it printed.
func (w world) run(t *testing.T, c command.Command) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	out, err := command.Output(ctx, command.Exec{}, c)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(c.Name), strings.Join(c.Args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// place makes a directory for a machine, empty. What is left in it after a failure is for people.
func (w world) place(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(w.repo, "out/test-vm", name)
	must(t, os.RemoveAll(dir))
	must(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.Remove(filepath.Join(dir, "disk.qcow2"))
		}
	})
	return dir
}

// boot starts a machine that lasts as long as the test t. A machine that was killed boots again from the same options.
func (w world) boot(t *testing.T, o vm.Options) *vm.Running {
	t.Helper()
	o.Tree, o.Accel = w.qemu, w.accel
	if o.Host == nil {
		o.Host = command.Exec{}
	}
	if o.Disk == "" && o.Kernel == "" && o.Medium == "" && o.BootFile == "" && o.Target == "" && o.Cable.Tap == "" {
		o.Disk = filepath.Join(w.image, bake.FileDisk)
	}
	if o.DiskSize == 0 {
		o.DiskSize = vm.DefaultDiskSize
	}
	machine, err := vm.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(machine.Kill)
	return machine
}

// expect waits for a line on the machine's console and logs when it came.
func expect(t *testing.T, m *vm.Running, what, pattern string, within time.Duration) []string {
	t.Helper()
	begin := time.Now()
	match, err := m.Console().Expect(t.Context(), vm.Expectation{What: what, Want: regexp.MustCompile(pattern), Within: within})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s after %s: %s", what, vm.Clock(time.Since(begin)), match[0])
	return match
}

// mustNotHaveSaid fails when a line of the console so far matches.
func mustNotHaveSaid(t *testing.T, m *vm.Running, what, pattern string) {
	t.Helper()
	for _, line := range m.Console().Lines() {
		if regexp.MustCompile(pattern).MatchString(line.Text) {
			t.Errorf("%s: the console says %q", what, line.Text)
		}
	}
}

// filesystem makes an ext4 image called label with files, as an ordinary user would.
func (w world) filesystem(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	must(t, os.Mkdir(tree, 0o755))
	for name, source := range files {
		content, err := os.ReadFile(source)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(tree, name), content, 0o755))
	}
	image := filepath.Join(dir, label+".ext4")
	c := w.peers.Command("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", label, "-d", tree, image, "64M")
	c.Env = append(c.Env, "MKE2FS_CONFIG="+w.peers.Path("etc/mke2fs.conf"))
	w.run(t, c)
	return image
}

// freePort is a port of the loopback that nobody uses at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	port, release := takePort(t)
	release()
	return port
}

func takePort(t *testing.T) (int, func()) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	return listener.Addr().(*net.TCPAddr).Port, func() { listener.Close() }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
