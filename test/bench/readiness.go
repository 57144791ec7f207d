package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// readiness compares two ways from "containerd answers" to "every container image is listed and unpacked, and the
// first one's root is mounted": kiln's (manifests alone, layers in the read-only cache) and an import of the same
// container images. After the clock has stopped, the root of every other one is mounted too: they have to be there.
type readiness struct {
	// containerd and ctr are the release's binaries.
	containerd, ctr string
	// layers is the EROFS cache, on the squashfs that a node has.
	layers string
	// names are the container images.
	names []string
	// work is an empty directory on a real filesystem.
	work string
	run  command.Exec
}

// way is one of the two.
type way struct {
	name        string
	archive     string
	snapshotter string
}

// taken is what one run took.
type taken struct {
	wall, cpu time.Duration
	bytes     int64
}

// containerdToml is a containerd of its own: nothing is shared with one that may run on this machine.
const containerdToml = `version = 3
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
  address = %[3]q
[plugins.'io.containerd.snapshotter.v1.erofs']
  layer_content_caches = [%[4]q]
  dmverity_mode = "off"
[plugins.'io.containerd.service.v1.diff-service']
  default = ["erofs", "walking"]
[plugins.'io.containerd.transfer.v1.local']
  [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
    platform = "linux/amd64"
    snapshotter = "erofs"
    differ = "erofs"
  [[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
    platform = "linux/amd64"
    snapshotter = "overlayfs"
    differ = "walking"
`

// once measures one run of a way, in an empty containerd.
func (r readiness) once(ctx context.Context, w way) (result taken, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp(r.work, w.snapshotter+"-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, clear(dir)) }()
	socket, config := filepath.Join(dir, "sock"), filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(containerdToml, filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, r.layers)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return result, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return result, err
	}
	defer log.Close()
	daemon, err := r.run.Start(ctx, command.Command{Name: r.containerd, Args: []string{"--config", config}, Stdout: log, Stderr: log}, false)
	if err != nil {
		return result, err
	}
	defer daemon.Kill()
	defer r.unmount(dir)
	if err := answers(ctx, socket); err != nil {
		return result, err
	}
	c := client{readiness: r, dir: dir, socket: socket, way: w}
	unix.Sync()
	start, idle := time.Now(), processCPU(daemon.PID)
	err = c.become(ctx)
	unix.Sync()
	result.wall = time.Since(start)
	result.cpu = c.cpu + processCPU(daemon.PID) - idle
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return result, fmt.Errorf("%w\n%s", err, tail(string(text)))
	}
	if result.bytes, err = diskUsage(filepath.Join(dir, "root")); err != nil {
		return result, err
	}
	for i := range r.names[1:] {
		if err := c.mount(ctx, i+1); err != nil {
			return result, err
		}
	}
	return result, nil
}

func answers(ctx context.Context, socket string) error {
	for {
		if connection, err := net.Dial("unix", socket); err == nil {
			return connection.Close()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for containerd's socket: %w", ctx.Err())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// client is ctr, talking to one containerd.
type client struct {
	readiness
	dir, socket string
	way         way
	cpu         time.Duration
}

func (c *client) ctr(ctx context.Context, args ...string) (string, error) {
	var out strings.Builder
	usage, err := c.run.Run(ctx, command.Command{
		Name: c.readiness.ctr, Args: append([]string{"--address", c.socket, "--namespace", "k8s.io"}, args...), Stdout: &out,
	})
	c.cpu += usage.CPU
	return out.String(), err
}

// become imports, lists, and mounts the first container image's root.
func (c *client) become(ctx context.Context) error {
	if _, err := c.ctr(ctx, "images", "import", "--platform", "linux/amd64", "--snapshotter", c.way.snapshotter, c.way.archive); err != nil {
		return err
	}
	listed, err := c.ctr(ctx, "images", "ls", "-q")
	if err != nil {
		return err
	}
	for _, name := range c.names {
		if !strings.Contains(listed, name+"\n") {
			return fmt.Errorf("container image %s is not listed after the import", name)
		}
	}
	return c.mount(ctx, 0)
}

// mount mounts the root of container image number i and looks for the program that it is there for.
func (c *client) mount(ctx context.Context, i int) error {
	target := filepath.Join(c.dir, "mnt", strconv.Itoa(i))
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if _, err := c.ctr(ctx, "images", "mount", "--snapshotter", c.way.snapshotter, "--platform", "linux/amd64", c.names[i], target); err != nil {
		return fmt.Errorf("mounting the root of %s: %w", c.names[i], err)
	}
	entries, err := os.ReadDir(target)
	if err == nil && len(entries) == 0 {
		err = fmt.Errorf("the root of %s is empty", c.names[i])
	}
	return err
}

func (r readiness) unmount(dir string) {
	for i := range r.names {
		_ = unix.Unmount(filepath.Join(dir, "mnt", strconv.Itoa(i)), unix.MNT_DETACH)
	}
}

// clear removes a containerd's directory, with whatever its snapshots have mounted below.
func clear(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH)
		}
	}
	return os.RemoveAll(dir)
}

// processCPU is what a process has computed, from its stat file (fields 14 and 15, in ticks of 10 ms).
func processCPU(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, field := range fields[11:15] {
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// diskUsage is what the files below dir take on the disk.
func diskUsage(dir string) (sum int64, err error) {
	return sum, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		sum += stat.Blocks * 512
		return nil
	})
}

func tail(text string) string {
	return text[max(0, len(text)-2000):]
}

// runs is how often each way is measured, in turn.
const runs = 5

// benchReadiness measures both ways in turn, on the squashfs that a node has.
func benchReadiness(ctx context.Context, t *table) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, to mount; run it as root")
	}
	b, err := build(ctx, "vm-disk", "", "out/bench")
	if err != nil {
		return err
	}
	images, err := importArchive(ctx, b.RootHash)
	if err != nil {
		return err
	}
	cache, _, err := kiln(ctx, "cache", "path")
	if err != nil {
		return err
	}
	r, done, err := prepare(ctx, b.part(cache, "payload", "payload.squashfs"), images)
	defer done()
	if err != nil {
		return err
	}
	manifests := b.part(cache, "preload", "container-images.tar")
	ways := []way{{"kiln", manifests, "erofs"}, {"import, overlayfs", images.archive, "overlayfs"}}
	results := make([][]taken, len(ways))
	for range runs {
		for i, w := range ways {
			one, err := r.once(ctx, w)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			results[i] = append(results[i], one)
		}
	}
	t.row(fmt.Sprintf("%d container images, median of %d", len(images.names), runs), "wall s", "min", "cpu s", "written")
	for i, w := range ways {
		m := median(results[i])
		t.row(w.name, seconds(m.wall.Seconds()), seconds(fastest(results[i]).Seconds()), seconds(m.cpu.Seconds()), fmt.Sprintf("%.2f MiB", float64(m.bytes)/(1<<20)))
	}
	a, c := median(results[0]), median(results[1])
	t.row("ratio", fmt.Sprintf("%.1f x faster", c.wall.Seconds()/a.wall.Seconds()), "", fmt.Sprintf("%.1f x less", c.cpu.Seconds()/a.cpu.Seconds()), fmt.Sprintf("%.3f %%", 100*float64(a.bytes)/float64(c.bytes)), "aims: 20 x, 1 %")
	return nil
}

// prepare mounts the payload as a node does and finds the release's binaries.
func prepare(ctx context.Context, payload string, images imported) (readiness, func(), error) {
	done := func() {}
	work, err := os.MkdirTemp("/var/tmp", "kiln-readiness-")
	if err != nil {
		return readiness{}, done, err
	}
	mounted := filepath.Join(work, "payload")
	done = func() {
		_ = unix.Unmount(mounted, unix.MNT_DETACH)
		_ = clear(work)
	}
	if err := os.Mkdir(mounted, 0o755); err != nil {
		return readiness{}, done, err
	}
	if _, err := (command.Exec{}).Run(ctx, command.Command{Name: "mount", Args: []string{"-t", "squashfs", "-o", "ro,loop", payload, mounted}}); err != nil {
		return readiness{}, done, err
	}
	r := readiness{layers: filepath.Join(mounted, "layers"), names: images.names, work: work}
	r.containerd, r.ctr = filepath.Join(mounted, "usr/bin/containerd"), filepath.Join(mounted, "usr/bin/ctr")
	return r, done, r.offerMkfs(ctx)
}

// offerMkfs puts the tools tree's mkfs.erofs on the PATH: containerd's differ wants to find one, and runs it for layers
// that are not in the cache.
func (r readiness) offerMkfs(ctx context.Context) error {
	tools, _, err := kiln(ctx, "cache", "tools", "build")
	if err != nil {
		return err
	}
	c := rootfs.Tools{Dir: tools}.Command("mkfs.erofs")
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' '%s' \"$@\"\n", c.Name, strings.Join(c.Args, "' '"))
	if err := os.WriteFile(filepath.Join(r.work, "mkfs.erofs"), []byte(script), 0o755); err != nil {
		return err
	}
	return os.Setenv("PATH", r.work+":"+filepath.Join(r.work, "payload/usr/bin")+":"+os.Getenv("PATH"))
}

func median(list []taken) taken {
	sorted := append([]taken(nil), list...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].wall < sorted[j].wall })
	return sorted[len(sorted)/2]
}

func fastest(list []taken) time.Duration {
	best := list[0].wall
	for _, one := range list {
		best = min(best, one.wall)
	}
	return best
}
