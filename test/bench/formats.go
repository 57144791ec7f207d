package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
)

// allFormats are the images that a release is published as; the first is the one that the others are compared with.
var allFormats = []string{"vm-disk", "cloud-qcow2", "cloud-vhd", "cloud-vmdk", "cloud-gce", "cloud-aws", "metal-disk", "metal-pxe", "metal-iso"}

// Aims of an initramfs, in bytes.
const (
	virtualInitramfs = 20e6
	metalInitramfs   = 40e6
)

// kind is what the parts of a cache with the same purpose take together.
type kind struct {
	parts int
	bytes int64
}

// state is what a cache and a directory of results hold, in bytes on the disk.
type state struct {
	cache, results int64
	// kinds are the cache's parts by the first word of their names, as in sealed.
	kinds map[string]kind
}

// benchFormats builds one image, and then all of them with one command, each time with a cache that has the payload's binaries
// only.
func benchFormats(ctx context.Context, t *table) error {
	work, err := os.MkdirTemp(".", ".bench-")
	if err != nil {
		return err
	}
	defer parts.RemoveAll(work)
	if work, err = filepath.Abs(work); err != nil {
		return err
	}
	first, one, err := buildCold(ctx, allFormats[:1], filepath.Join(work, "one"))
	if err != nil {
		return err
	}
	each, all, err := buildCold(ctx, allFormats, filepath.Join(work, "all"))
	if err != nil {
		return err
	}
	stepTable(t, each)
	single, sum := first[0].step("total"), bake.Timing{}
	for _, b := range each {
		sum.Seconds += b.step("total").Seconds
		sum.CPUSeconds += b.step("total").CPUSeconds
	}
	t.row("all against one, wall", fmt.Sprintf("%s s, %s s", seconds(sum.Seconds), seconds(single.Seconds)), fmt.Sprintf("%.2f x", sum.Seconds/single.Seconds), "aim: 1.5 x")
	t.row("all against one, cpu", fmt.Sprintf("%s s, %s s", seconds(sum.CPUSeconds), seconds(single.CPUSeconds)), fmt.Sprintf("%.2f x", sum.CPUSeconds/single.CPUSeconds))
	diskTable(t, one, all)
	initramfsTable(t, each)
	return nil
}

// buildCold builds images with a new cache in a directory, and measures what is there then.
func buildCold(ctx context.Context, images []string, dir string) ([]built, state, error) {
	cache, out := filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	if err := linkSources(ctx, cache); err != nil {
		return nil, state{}, err
	}
	each, err := buildAll(ctx, images, cache, out)
	if err != nil {
		return nil, state{}, err
	}
	s, err := measureState(cache, out)
	return each, s, err
}

// buildAll builds images into out; with several, kiln prints a list.
func buildAll(ctx context.Context, images []string, cache, out string) ([]built, error) {
	args := append([]string{"build", strings.Join(images, ","), "--json", "-o", out, "--cache", cache}, plan...)
	var said strings.Builder
	var stderr strings.Builder
	if _, err := (command.Exec{}).Run(ctx, command.Command{Name: "bin/kiln", Args: args, Stdout: &said, Stderr: &stderr}); err != nil {
		return nil, fmt.Errorf("building %s: %w: %s", strings.Join(images, ","), err, tail(stderr.String()))
	}
	list := make([]built, 1)
	if len(images) == 1 {
		return list, json.Unmarshal([]byte(said.String()), &list[0])
	}
	return list, json.Unmarshal([]byte(said.String()), &list)
}

// measureState measures a cache, without what it has by symbolic links, and the results.
func measureState(cache, out string) (state, error) {
	s := state{kinds: map[string]kind{}}
	entries, err := os.ReadDir(filepath.Join(cache, "parts"))
	if err != nil {
		return s, err
	}
	seen := map[uint64]bool{}
	for _, entry := range entries {
		at := strings.LastIndex(entry.Name(), "-")
		if !entry.IsDir() || at < 0 {
			continue
		}
		n, err := newUsage(filepath.Join(cache, "parts", entry.Name()), seen)
		if err != nil {
			return s, err
		}
		k := s.kinds[entry.Name()[:at]]
		s.kinds[entry.Name()[:at]] = kind{k.parts + 1, k.bytes + n}
		s.cache += n
	}
	s.results, err = diskUsage(out)
	return s, err
}

// newUsage is what a directory's files take on the disk, without those whose inodes were seen before: parts share files by links.
func newUsage(dir string, seen map[uint64]bool) (sum int64, err error) {
	return sum, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		if !seen[stat.Ino] {
			sum += stat.Blocks * 512
		}
		seen[stat.Ino] = true
		return nil
	})
}

// stepTable shows in a column for each image what each step took.
func stepTable(t *table, each []built) {
	head := []any{"step, s"}
	for _, b := range each {
		head = append(head, b.Image)
	}
	t.row(head...)
	for _, step := range append(bake.Steps().Names(), "total") {
		row := []any{step}
		for _, b := range each {
			row = append(row, seconds(b.step(step).Seconds))
		}
		t.row(row...)
	}
}

// ofImage tells the parts that depend on the kernel, the platform or the format from those that every image has in common.
func ofImage(name string) bool {
	return slices.Contains([]string{"kernel", "system-fs", "sealed", "initramfs", "boot", "live", "format-tools", "medium-tools"}, name)
}

// diskTable compares what lies on the disk after all images with what lay there after one.
func diskTable(t *table, one, all state) {
	ratio := func(name string, all, one int64, more ...any) {
		t.row(append([]any{name, mib(all) + ", " + mib(one), fmt.Sprintf("%.2f x", float64(all)/float64(one))}, more...)...)
	}
	shared := func(s state) (sum int64) {
		for name, k := range s.kinds {
			if !ofImage(name) {
				sum += k.bytes
			}
		}
		return sum
	}
	ratio("parts that no kernel and no format changes", shared(all), shared(one), "aim: 1.2 x")
	ratio("all parts in the cache", all.cache, one.cache)
	ratio("results", all.results, one.results)
	for _, name := range slices.Sorted(maps.Keys(all.kinds)) {
		if ofImage(name) {
			t.row(fmt.Sprintf("  %s: %d parts, %d", name, all.kinds[name].parts, one.kinds[name].parts), mib(all.kinds[name].bytes)+", "+mib(one.kinds[name].bytes))
		}
	}
}

func initramfsTable(t *table, each []built) {
	for _, b := range each {
		aim := int64(virtualInitramfs)
		if strings.HasPrefix(b.Image, "metal-") {
			aim = metalInitramfs
		}
		size := b.Sizes["initramfs"]
		t.row("initramfs of "+b.Image, mib(size), fmt.Sprintf("%.2f of the aim", float64(size)/float64(aim)), fmt.Sprintf("aim: %d MB", aim/1e6))
	}
}
