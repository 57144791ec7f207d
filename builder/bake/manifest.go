package bake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kiln-os/kiln/builder/parts"
)

// Names of the results in the output directory.
const (
	FileDisk     = "disk.raw"
	FileManifest = "manifest.json"
	FileSums     = "SHA256SUMS"
	FileCmdline  = "cmdline"
)

// Manifest says what lies in an output directory.
type Manifest struct {
	Image    string `json:"image"`
	Profile  string `json:"profile"`
	Release  string `json:"release"`
	Version  string `json:"version"`
	RootHash string `json:"rootHash"`
	// CommandLine is the kernel's.
	CommandLine string `json:"commandLine"`
	// MinimumDisk is the least size of a node's disk, in bytes.
	MinimumDisk int64 `json:"minimumDisk"`
	// Key names everything that the files were made from.
	Key string `json:"key"`
	// Files are the results, by name.
	Files []File `json:"files"`
	// ContainerImages maps the names of the baked container images to their manifests' digests.
	ContainerImages map[string]string `json:"containerImages"`
	// Packages maps the Debian packages of the root to their versions.
	Packages map[string]string `json:"packages"`
	// Sizes are in bytes: what went in and what came out.
	Sizes map[string]int64 `json:"sizes"`
	// Timings are of the build that is reported; they are not part of the file.
	Timings []Timing `json:"-"`
	// Unchanged reports that the directory already held the result.
	Unchanged bool `json:"-"`
}

// File is one result.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// Modified tells, with Size, whether somebody has changed the file since.
	Modified time.Time `json:"modified"`
}

// ReadManifest reads the manifest of an output directory.
func ReadManifest(dir string) (Manifest, error) {
	text, err := os.ReadFile(filepath.Join(dir, FileManifest))
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("%s holds no image (no %s); build one with kiln build -o %s", dir, FileManifest, dir)
	}
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("reading %s: %w", filepath.Join(dir, FileManifest), err)
	}
	return m, nil
}

// intact reports whether every file is as the manifest says, by size and time.
func (m Manifest) intact(dir string) bool {
	for _, file := range m.Files {
		info, err := os.Stat(filepath.Join(dir, file.Name))
		if err != nil || info.Size() != file.Size || !info.ModTime().Equal(file.Modified) {
			return false
		}
	}
	return len(m.Files) > 0
}

// writeDisk writes the disk image beside its final name and renames it: the output directory never holds half of one.
func (b *build) writeDisk(context.Context) (note string, err error) {
	layout := b.Plan.Layout()
	key := parts.Key("output", "1", b.boot.Name, b.sealed.Name, layout)
	if previous, err := ReadManifest(b.Out); err == nil && previous.Key == key && previous.intact(b.Out) {
		timings := b.manifest.Timings
		b.manifest, b.manifest.Unchanged = previous, true
		b.manifest.Timings = timings
		return "unchanged", nil
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return "", fmt.Errorf("making the output directory: %w", err)
	}
	disk, err := b.disk()
	if err != nil {
		return "", err
	}
	if err := b.room(disk.Partitions[0].Size); err != nil {
		return "", err
	}
	task := b.Progress.Start("disk", "writing "+filepath.Join(b.Out, FileDisk))
	work := filepath.Join(b.Out, "."+FileDisk+".part")
	defer os.Remove(work)
	if err := remove(work); err != nil {
		return "", err
	}
	sum, err := disk.Write(work)
	if err != nil {
		task.Fail()
		return "", err
	}
	// Without its manifest the directory holds no image, whatever happens between here and the end.
	if err := errors.Join(remove(filepath.Join(b.Out, FileManifest)), os.Rename(work, filepath.Join(b.Out, FileDisk))); err != nil {
		task.Fail()
		return "", err
	}
	task.Done("")
	b.describe(key)
	return "", b.addFile(FileDisk, sum)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// room refuses to begin what the filesystem has no space for.
func (b *build) room(esp int64) error {
	need := esp / 4
	for _, path := range []string{b.sealed.Path(fileRoot), b.sealed.Path(fileVerity)} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		need += info.Size()
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(b.Out, &stat); err != nil {
		return err
	}
	if have := int64(stat.Bavail) * stat.Bsize; have < need {
		return fmt.Errorf("writing %s: the filesystem has %d MiB free, the image needs %d MiB; free some space or choose another directory with -o", b.Out, have>>20, need>>20)
	}
	return nil
}

func (b *build) describe(key string) {
	timings := b.manifest.Timings
	b.manifest = Manifest{
		Image: b.Plan.Image.Name, Profile: b.Plan.Profile.Name, Release: b.Plan.Release.Name, Version: b.version, RootHash: b.rootHash,
		CommandLine: b.Plan.CommandLine(b.rootHash), MinimumDisk: int64(b.Plan.Layout().MinimumDisk()), Key: key,
		ContainerImages: b.preload.Manifests, Packages: b.packageVersions(), Sizes: b.sizes(), Timings: timings,
	}
}

func (b *build) addFile(name, sum string) error {
	info, err := os.Stat(filepath.Join(b.Out, name))
	if err != nil {
		return err
	}
	b.manifest.Files = append(b.manifest.Files, File{Name: name, Size: info.Size(), SHA256: sum, Modified: info.ModTime().UTC()})
	return nil
}

// packageVersions reads the root's dpkg database.
func (b *build) packageVersions() map[string]string {
	text, err := os.ReadFile(b.system.Path("packages"))
	if err != nil {
		return nil
	}
	versions, name := map[string]string{}, ""
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "Package: "); ok {
			name = value
		}
		if value, ok := strings.CutPrefix(line, "Version: "); ok {
			versions[name] = value
		}
	}
	return versions
}

func (b *build) sizes() map[string]int64 {
	sizes := map[string]int64{"layers": b.preload.LayerBytes, "layersRaw": b.preload.RawBytes}
	for name, path := range map[string]string{
		"packages": b.packages.Path("root.tar"), "system": b.system.Path("system.squashfs"), "payload": b.payloadFS.Path("payload.squashfs"),
		"root": b.sealed.Path(fileRoot), "verity": b.sealed.Path(fileVerity), "initramfs": b.boot.Path(fileInitramfs),
		"kernel": b.kernel.Image(), "uki": b.boot.Path(fileUKI), "manifests": b.preload.Archive(), "firstboot": b.Firstboot,
	} {
		if info, err := os.Stat(path); err == nil {
			sizes[name] = info.Size()
		}
	}
	return sizes
}

// finish puts the small results beside the disk image, the manifest last.
func (b *build) finish() error {
	if b.manifest.Unchanged {
		return nil
	}
	var sums strings.Builder
	for _, file := range b.manifest.Files {
		fmt.Fprintf(&sums, "%s  %s\n", file.SHA256, file.Name)
	}
	text, err := json.MarshalIndent(b.manifest, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		renameio.WriteFile(filepath.Join(b.Out, FileSums), []byte(sums.String()), 0o644),
		renameio.WriteFile(filepath.Join(b.Out, FileCmdline), []byte(b.manifest.CommandLine+"\n"), 0o644),
		renameio.WriteFile(filepath.Join(b.Out, FileManifest), append(text, '\n'), 0o644),
	)
}

// cpuSeconds is what this process and its finished children have computed.
func cpuSeconds() float64 {
	var sum float64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if syscall.Getrusage(who, &usage) == nil {
			sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
		}
	}
	return sum
}
