package bake

import (
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
	"github.com/kiln-os/kiln/builder/sbom"
	"github.com/kiln-os/kiln/internal/document"
)

// Names of what lies beside the image in the output directory.
const (
	FileManifest = "manifest.json"
	FileSums     = "SHA256SUMS"
	FileCmdline  = "cmdline"
	FileSBOM     = "sbom.cdx.json"
)

// Manifest says what lies in an output directory.
type Manifest struct {
	Image string `json:"image"`
	// Platform and Format are the image's.
	Platform string `json:"platform"`
	Format   string `json:"format"`
	Profile  string `json:"profile"`
	Release  string `json:"release"`
	Version  string `json:"version"`
	RootHash string `json:"rootHash"`
	// CommandLine is the kernel's.
	CommandLine string `json:"commandLine"`
	// SignedBy is the SHA-256 of the certificate that Secure Boot has to trust; empty when nothing is signed.
	SignedBy string `json:"signedBy,omitempty"`
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
	// Parts names the parts of the cache that the files were put together from.
	Parts map[string]string `json:"parts"`
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
		return Manifest{}, &parts.PlaceError{Dir: dir, Err: err, Text: fmt.Sprintf("holds no image (no %s); build one with kiln build -o %s", FileManifest, dir)}
	}
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, document.Problem{File: filepath.Join(dir, FileManifest), Text: fmt.Sprintf("is not a manifest (%v); make it again with kiln build -o %s", err, dir)}
	}
	return m, nil
}

// Disk is the name of the file with the disk; empty when the format has none.
func (m Manifest) Disk() string { return diskFile(m.Format) }

// intact reports whether every file is as the manifest says, by size and time, and the small ones are there.
func (m Manifest) intact(dir string) bool {
	for _, name := range []string{FileSums, FileCmdline} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	for _, file := range m.Files {
		info, err := os.Stat(filepath.Join(dir, file.Name))
		if err != nil || info.Size() != file.Size || !info.ModTime().Equal(file.Modified) {
			return false
		}
	}
	return len(m.Files) > 0
}

func (b *build) describe(key string) {
	timings := b.manifest.Timings
	b.manifest = Manifest{
		Image: b.Plan.Image.Name, Platform: b.Plan.Image.Platform, Format: b.Plan.Image.Format,
		Profile: b.Plan.Profile.Name, Release: b.Plan.Release.Name, Version: b.version, RootHash: b.rootHash,
		CommandLine: b.commandLine(), SignedBy: b.signedBy(), MinimumDisk: int64(b.Plan.Layout().MinimumDisk()), Key: key,
		ContainerImages: b.preload.Manifests, Packages: b.packageVersions(), Sizes: b.sizes(), Timings: timings,
		Parts: map[string]string{
			"packages": b.packages.Name, "kernel": b.kernel.Key(), "preload": b.preload.Name, "payload": b.payloadFS.Name,
			"system": b.system.Name, "sealed": b.sealed.Name, "boot": b.boot.Name,
		},
	}
}

// addFile notes a file that was made, with its SHA-256.
func (b *build) addFile(name, sum string) error {
	info, err := os.Stat(b.next(name))
	if err != nil {
		return err
	}
	b.made = append(b.made, File{Name: name, Size: info.Size(), SHA256: sum, Modified: info.ModTime().UTC()})
	return nil
}

// packageVersions reads the root's dpkg database.
func (b *build) packageVersions() map[string]string {
	text, err := os.ReadFile(b.system.Path("packages"))
	if err != nil {
		return nil
	}
	versions := map[string]string{}
	for _, p := range sbom.ParseStatus(string(text)) {
		versions[p.Name] = p.Version
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

// finish adds the small files and puts everything in its place.
func (b *build) finish() error {
	if b.manifest.Unchanged {
		return nil
	}
	b.manifest.Files = b.made
	var sums strings.Builder
	for _, file := range b.manifest.Files {
		fmt.Fprintf(&sums, "%s  %s\n", file.SHA256, file.Name)
	}
	text, err := json.MarshalIndent(b.manifest, "", "  ")
	if err != nil {
		return err
	}
	for _, file := range []struct{ name, text string }{
		{FileSums, sums.String()}, {FileCmdline, b.manifest.CommandLine + "\n"}, {FileManifest, string(text) + "\n"},
	} {
		if err := renameio.WriteFile(b.next(file.name), []byte(file.text), 0o644); err != nil {
			return b.outError(fmt.Errorf("writing %s: %w", file.name, err))
		}
	}
	return b.outError(b.commit())
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
