package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// state is what a directory of builds holds, in bytes on the disk.
type state struct{ shared, own int64 }

// benchFormats builds one image in an empty cache that has the payload's binaries only, and then all of them with that cache.
// Both together are what all of them take from nothing, for builds of one command follow each other.
func benchFormats(ctx context.Context, t *table) error {
	work, err := os.MkdirTemp(".", ".bench-")
	if err != nil {
		return err
	}
	defer parts.RemoveAll(work)
	if work, err = filepath.Abs(work); err != nil {
		return err
	}
	cache, out := filepath.Join(work, "cache"), filepath.Join(work, "out")
	if err := linkSources(ctx, cache); err != nil {
		return err
	}
	first, err := buildAll(ctx, allFormats[:1], cache, filepath.Join(out, allFormats[0]))
	if err != nil {
		return err
	}
	one, err := measureState(cache, out)
	if err != nil {
		return err
	}
	rest, err := buildAll(ctx, allFormats, cache, out)
	if err != nil {
		return err
	}
	all, err := measureState(cache, out)
	if err != nil {
		return err
	}
	each := slices.Concat(first, rest[1:])
	stepTable(t, each)
	single, sum := first[0].step("total"), rest[0].step("total")
	for _, b := range each {
		sum.Seconds += b.step("total").Seconds
		sum.CPUSeconds += b.step("total").CPUSeconds
	}
	t.row("all against one, wall", fmt.Sprintf("%s s, %s s", seconds(sum.Seconds), seconds(single.Seconds)), fmt.Sprintf("%.2f x", sum.Seconds/single.Seconds), "aim: 1.5 x")
	t.row("all against one, cpu", fmt.Sprintf("%s s, %s s", seconds(sum.CPUSeconds), seconds(single.CPUSeconds)), fmt.Sprintf("%.2f x", sum.CPUSeconds/single.CPUSeconds))
	t.row("shared parts on the disk", mib(all.shared)+", "+mib(one.shared), fmt.Sprintf("%.2f x", float64(all.shared)/float64(one.shared)), "aim: 1.2 x")
	t.row("results on the disk", mib(all.own)+", "+mib(one.own), fmt.Sprintf("%.2f x", float64(all.own)/float64(one.own)))
	if err := kindTable(t, cache); err != nil {
		return err
	}
	initramfsTable(t, each)
	return nil
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

// measureState measures the cache, without what it has by symbolic links, and the results.
func measureState(cache, out string) (s state, err error) {
	if s.shared, err = diskUsage(cache); err != nil {
		return s, err
	}
	s.own, err = diskUsage(out)
	return s, err
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

// kindTable shows the cache's parts by what they are.
func kindTable(t *table, cache string) error {
	entries, err := os.ReadDir(filepath.Join(cache, "parts"))
	if err != nil {
		return err
	}
	size, count := map[string]int64{}, map[string]int{}
	var kinds []string
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		kind := entry.Name()[:max(0, strings.LastIndex(entry.Name(), "-"))]
		n, err := diskUsage(filepath.Join(cache, "parts", entry.Name()))
		if err != nil {
			return err
		}
		if count[kind] == 0 {
			kinds = append(kinds, kind)
		}
		size[kind] += n
		count[kind]++
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		t.row("  "+kind, count[kind], mib(size[kind]))
	}
	return nil
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
