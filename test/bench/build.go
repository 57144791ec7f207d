package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"io"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
)

// built is what `kiln build --json` prints.
type built struct {
	bake.Manifest
	Unchanged bool          `json:"unchanged"`
	Timings   []bake.Timing `json:"timings"`
	usage     command.Usage
}

// step finds a step's timing.
func (b built) step(name string) bake.Timing {
	for _, t := range b.Timings {
		if t.Step == name {
			return t
		}
	}
	return bake.Timing{}
}

var plan = []string{"--profile", "control-plane", "--release", "v1.36"}

// kiln runs bin/kiln and returns its output.
func kiln(ctx context.Context, args ...string) (string, command.Usage, error) {
	var out strings.Builder
	usage, err := command.Exec{}.Run(ctx, command.Command{Name: "bin/kiln", Args: args, Stdout: &out, Stderr: io.Discard})
	return strings.TrimSpace(out.String()), usage, err
}

func build(ctx context.Context, image, cache, out string, more ...string) (built, error) {
	args := append([]string{"build", image, "--json", "-o", out}, plan...)
	if cache != "" {
		args = append(args, "--cache", cache)
	}
	text, usage, err := kiln(ctx, append(args, more...)...)
	b := built{usage: usage}
	if err != nil {
		return b, err
	}
	return b, json.Unmarshal([]byte(text), &b)
}

// benchBuild builds in an empty cache that has the payload's binaries only, then again with nothing changed, then with
// one file changed: a profile's file, which lies in the root like an overlay file.
func benchBuild(ctx context.Context, t *table) error {
	work, err := os.MkdirTemp(".", ".bench-")
	if err != nil {
		return err
	}
	defer parts.RemoveAll(work)
	work, err = filepath.Abs(work)
	if err != nil {
		return err
	}
	cache, out := filepath.Join(work, "cache"), filepath.Join(work, "out")
	if err := linkSources(ctx, cache); err != nil {
		return err
	}
	cold, err := build(ctx, "vm-disk", cache, out)
	if err != nil {
		return err
	}
	warm, err := build(ctx, "vm-disk", cache, out)
	if err != nil {
		return err
	}
	changed, err := changedProfile(work)
	if err != nil {
		return err
	}
	edit, err := build(ctx, "vm-disk", cache, filepath.Join(work, "edit"), "--profile", changed)
	if err != nil {
		return err
	}
	t.row("step", "cold s", "cpu s", "unchanged s", "cpu s", "one file s", "cpu s")
	for _, timing := range cold.Timings {
		w, e := warm.step(timing.Step), edit.step(timing.Step)
		t.row(timing.Step, seconds(timing.Seconds), seconds(timing.CPUSeconds), seconds(w.Seconds), seconds(w.CPUSeconds), seconds(e.Seconds), seconds(e.CPUSeconds))
	}
	payload := cold.step("payload").Seconds
	whole := cold.step("total").Seconds - payload
	t.row("peak memory", mib(cold.usage.PeakBytes), "", mib(warm.usage.PeakBytes), "", mib(edit.usage.PeakBytes), "")
	t.row("ratio to cold", 1, "", fmt.Sprintf("%.3f", warm.step("total").Seconds/whole), "", fmt.Sprintf("%.3f", edit.step("total").Seconds/whole), "aim: one file at most 0.1")
	t.row("same digest", "", "", warm.Files[0].SHA256 == cold.Files[0].SHA256 && warm.Unchanged, "", "", "aim: unchanged under 2 s")
	return nil
}

func seconds(s float64) string { return fmt.Sprintf("%.2f", s) }

// linkSources gives a cache the binaries that are built from source, by symbolic links.
func linkSources(ctx context.Context, cache string) error {
	from, _, err := kiln(ctx, "cache", "path")
	if err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(from, "parts", "source-*"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(cache, "parts"), 0o755); err != nil {
		return err
	}
	for _, source := range sources {
		if err := os.Symlink(source, filepath.Join(cache, "parts", filepath.Base(source))); err != nil {
			return err
		}
	}
	return nil
}

func changedProfile(work string) (string, error) {
	text, err := os.ReadFile("profiles/control-plane.yaml")
	if err != nil {
		return "", err
	}
	path := filepath.Join(work, "control-plane.yaml")
	return path, os.WriteFile(path, append(text, "files:\n  /etc/motd: one changed file\n"...), 0o644)
}

// benchSize compares the root partition's content with its inputs, each compressed by itself: the packages' tar and the
// binaries as zstd level 3, the container images' layers as gzip, the form in which registries hold them.
func benchSize(ctx context.Context, t *table) error {
	b, err := build(ctx, "vm-disk", "", "out/bench")
	if err != nil {
		return err
	}
	cache, _, err := kiln(ctx, "cache", "path")
	if err != nil {
		return err
	}
	packages := b.part(cache, "packages", "root.tar")
	images, err := importArchive(ctx, b.RootHash)
	if err != nil {
		return err
	}
	sum := int64(0)
	for name, measure := range map[string]func() (int64, error){
		"packages, tar.zst":           func() (int64, error) { return compressed(packages, packed) },
		"node binaries, zst":          func() (int64, error) { return nodeBinaries(ctx) },
		"container images, tar of gz": func() (int64, error) { return fileSize(images.archive) },
		"modules, zst":                func() (int64, error) { return diskUsage(b.part(cache, "kernel", "tree")) }, // xz already
	} {
		n, err := measure()
		if err != nil {
			return err
		}
		sum += n
		t.row(name, mib(n))
	}
	t.row("sum of inputs", mib(sum))
	t.row("root (system + payload)", mib(b.Sizes["root"]), fmt.Sprintf("%.2f of the inputs", float64(b.Sizes["root"])/float64(sum)))
	t.row("hash tree", mib(b.Sizes["verity"]))
	t.row("initramfs", mib(b.Sizes["initramfs"]), "aim: at most 16 MiB")
	t.row("unified kernel image", mib(b.Sizes["uki"]))
	return nil
}

// part is the path of a file of one of the parts that the image was put together from.
func (b built) part(cache, name, file string) string {
	return filepath.Join(cache, "parts", b.Parts[name], file)
}

func packed(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault))
}

// compressed is how many bytes a file has after compression.
func compressed(path string, with func(io.Writer) (io.WriteCloser, error)) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	count := &counter{}
	w, err := with(count)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(w, file); err != nil {
		return 0, err
	}
	return count.n, w.Close()
}

type counter struct{ n int64 }

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func nodeBinaries(ctx context.Context) (sum int64, err error) {
	for _, name := range []string{"kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "bridge", "loopback", "ptp", "host-local", "portmap", "firewall", "tuning", "bandwidth", "flannel"} {
		path, _, err := kiln(ctx, "binary", name)
		if err != nil {
			return 0, err
		}
		n, err := compressed(path, packed)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
