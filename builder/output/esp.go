// Package output writes the files that machines boot: the EFI system partition and the GPT disk image.
package output

import (
	"context"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// ESP is an EFI system partition: a FAT32 filesystem made by dosfstools and mtools of the tools tree, because go-diskfs
// writes a first-level directory's ".." entry in a way that fsck.vfat objects to.
type ESP struct {
	Run   command.Runner
	Tools rootfs.Tools
	// Size is the partition's size in bytes.
	Size int64
	// Epoch is every file's time.
	Epoch time.Time
	// Serial is the filesystem's volume ID.
	Serial uint32
	// Reserve is how many bytes an update will add.
	Reserve int64
	// Files maps slash-separated paths to host files.
	Files map[string]string
}

// Write makes the filesystem in the file out. The error is a *TooLargeError when the files do not fit.
func (e ESP) Write(ctx context.Context, out string) error {
	if err := e.fits(); err != nil {
		return err
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := file.Truncate(e.Size); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	// 512-byte clusters keep the cluster count of a small partition above FAT32's least (65525).
	mkfs := e.Tools.Command("mkfs.fat", "-F", "32", "-n", "ESP", "-i", fmt.Sprintf("%08x", e.Serial), "-S", "512", "-s", "1", "--invariant", out)
	if err := e.run(ctx, mkfs); err != nil {
		return fmt.Errorf("making the EFI system partition: %w", err)
	}
	for _, dir := range e.directories() {
		if err := e.mtool(ctx, "mmd", "-i", out, "::/"+dir); err != nil {
			return fmt.Errorf("making directory %s of the EFI system partition: %w", dir, err)
		}
	}
	for _, name := range sorted(e.Files) {
		// Without -m, which would keep the time at which the host's file was made.
		if err := e.mtool(ctx, "mcopy", "-i", out, e.Files[name], "::/"+name); err != nil {
			return fmt.Errorf("writing %s to the EFI system partition: %w", name, err)
		}
	}
	return nil
}

// leastFAT32 is the size of the smallest filesystem that is FAT32 to everybody: 65525 clusters of a sector, and the rest.
const leastFAT32 = 34 << 20

// Least is the size of the smallest partition that the files fit in, for a filesystem that never changes.
func (e ESP) Least() (int64, error) {
	need, err := e.need()
	return max(leastFAT32, (need*100/budget+reserved)/reserved*reserved), err
}

// fits compares the files, and what an update adds, with the room that FAT32 leaves for them: with clusters of one
// sector, each takes 4 bytes in both tables, and 32 sectors are reserved; one MiB is far more than the directories need.
// What stays free is for kernels and initramfs to grow, a quarter in the years that a node's disk is not made anew.
func (e ESP) fits() error {
	need, err := e.need()
	if err != nil {
		return err
	}
	return CheckBudget(nodefs.LabelESP, need, e.Size)
}

func (e ESP) need() (int64, error) {
	clusters := (e.Reserve + Sector - 1) / Sector
	for _, file := range e.Files {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		clusters += (info.Size() + Sector - 1) / Sector
	}
	return clusters*(Sector+2*4) + 32*Sector + 1<<20, nil
}

func (e ESP) directories() []string {
	seen := map[string]bool{}
	for name := range e.Files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			seen[dir] = true
		}
	}
	return sorted(seen)
}

// mtool runs mtools under one of its names.
func (e ESP) mtool(ctx context.Context, name string, args ...string) error {
	return e.run(ctx, e.Tools.Command(name, args...))
}

func (e ESP) run(ctx context.Context, c command.Command) error {
	// mtools reads the time of new entries from SOURCE_DATE_EPOCH, and in the given zone.
	c.Env = append(c.Env, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", e.Epoch.Unix()), "TZ=UTC", "MTOOLS_SKIP_CHECK=1")
	var text strings.Builder
	c.Stdout = &text
	if _, err := e.Run.Run(ctx, c); err != nil {
		return fmt.Errorf("%w\n%s", err, text.String())
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
