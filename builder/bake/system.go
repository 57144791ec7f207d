package bake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/preload"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/builder/seal"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/release"
)

// payloadLevel is the zstd level of the payload's filesystem. It is packed once for a release and a role, and read by
// every build after: 9 costs three times the computing of 3 and saves a twentieth of the bytes.
const payloadLevel = 9

func (b *build) squashfs(level int) seal.Squashfs {
	return seal.Squashfs{Run: b.Run, Tools: b.tools, Level: level, Epoch: b.Plan.Release.Timestamp}
}

// packPayload packs the release's binaries, each at its own path, and the layer cache.
func (b *build) packPayload(ctx context.Context) (note string, err error) {
	key := parts.Key("payload-fs", "2", b.payloadSums(), b.preload.Name, b.Plan.Release.Node, payloadLevel, b.Plan.Release.Timestamp.Unix())
	b.payloadFS, err = b.makePart(ctx, key, "payload-fs", "packing binaries and layers", func(ctx context.Context, dir string, _ *progress.Task) error {
		tree := filepath.Join(dir, "tree")
		if err := b.linkPayload(tree); err != nil {
			return err
		}
		if err := b.squashfs(payloadLevel).PackDir(ctx, filepath.Join(dir, "payload.squashfs"), tree); err != nil {
			return err
		}
		return parts.RemoveAll(tree)
	})
	return "", err
}

func (b *build) linkPayload(tree string) error {
	for _, binary := range b.Plan.Release.Node {
		if err := link(b.payload.Binaries[binary.Binary].Path, filepath.Join(tree, binary.Path)); err != nil {
			return err
		}
	}
	layers := strings.TrimPrefix(nodefs.Layers, nodefs.Payload)
	return filepath.WalkDir(b.preload.LayersDir(), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel, err := filepath.Rel(b.preload.LayersDir(), file)
		if err != nil {
			return err
		}
		return link(file, filepath.Join(tree, layers, rel))
	})
}

// masked are generators that guess at consoles and scripts which a node of kiln does not have.
var masked = []string{"systemd-getty-generator", "systemd-sysv-generator", "systemd-rc-local-generator", "systemd-ssh-generator"}

// packSystem packs packages, modules, overlay and what kiln itself writes.
func (b *build) packSystem(ctx context.Context) (note string, err error) {
	p := b.Plan
	// Of the image only what is in the root: images for several platforms share one.
	image := []any{p.Image.Disk.StateMinimum, p.Image.Level()}
	key := parts.Key("system-fs", "5", b.packages.Name, b.picks, b.kernel.Key(), b.overlaySum, b.firstbootSum, image, p.Profile, p.Release, b.preload.Manifests, b.payloadSums(), b.preload.Name)
	b.version = p.Release.Kubernetes + "-" + parts.Short(key)
	b.system, err = b.makePart(ctx, key, "system-fs", "packing packages, modules and overlay", func(ctx context.Context, dir string, task *progress.Task) error {
		composition, err := b.composition()
		if err != nil {
			return err
		}
		tree, err := b.Debian.Compose(ctx, b.tools, composition)
		if err != nil {
			return err
		}
		for _, name := range []string{"os-release", "packages"} {
			if err := b.keepText(tree, name, dir); err != nil {
				return err
			}
		}
		task.Total(tree.Size(), "packing")
		return b.squashfs(p.Image.Level()).PackTar(ctx, filepath.Join(dir, "system.squashfs"), func(w io.Writer) error { return tree.Write(w, task) })
	})
	return "", err
}

// keepText copies what later steps want to read of the root beside the packed filesystem.
func (b *build) keepText(tree *rootfs.Tree, name, dir string) error {
	source := map[string]string{"os-release": "usr/lib/os-release", "packages": "var/lib/dpkg/status"}[name]
	text, err := tree.Read(source)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), text, 0o644)
}

func (b *build) composition() (rootfs.Composition, error) {
	p := b.Plan
	c := rootfs.Composition{
		Packages: b.packages.Path("root.tar"), Picks: b.picks, Overlay: b.Overlay, Kernel: b.kernel,
		Programs: map[string]string{nodefs.Firstboot: b.Firstboot, nodefs.ContainerImages: b.preload.Archive()},
		Links:    map[string]string{}, Directories: []string{nodefs.Payload}, Files: map[string][]byte{},
	}
	for _, binary := range p.Release.Node {
		c.Links[binary.Path] = path.Join(nodefs.Payload, binary.Path)
	}
	for _, generator := range masked {
		c.Links["/etc/systemd/system-generators/"+generator] = "/dev/null"
	}
	for name, content := range p.Profile.Files {
		c.Files[name] = []byte(content)
	}
	c.Files["/usr/lib/systemd/system-preset/10-profile.preset"] = []byte(presets(p.Profile.Units))
	c.Files[nodefs.RepartDefinitions+"/50-state.conf"] = stateDefinition(p.Image.Disk.StateMinimum)
	if err := b.addDocuments(c.Files); err != nil {
		return c, err
	}
	var names []string
	for name := range b.preload.Manifests {
		names = append(names, name)
	}
	config, err := preload.ContainerdConfig(p.Release.SandboxImage(), names)
	c.Files["/etc/containerd/config.toml"] = config
	return c, err
}

// addDocuments adds the node's description of itself, the documents it was built from, and the release's addons.
func (b *build) addDocuments(files map[string][]byte) error {
	p := b.Plan
	baked := release.Baked{
		Profile: p.Profile.Name, Release: p.Release.Name, Role: p.Profile.Role, Version: b.version,
		Kubernetes: p.Release.Kubernetes, Timestamp: p.Release.Timestamp, SandboxImage: p.Release.SandboxImage(),
		ContainerImages: b.preload.Manifests, Files: map[string]string{nodefs.Firstboot: b.firstbootSum},
	}
	for _, binary := range p.Release.Node {
		baked.Files[binary.Path] = b.payload.Binaries[binary.Binary].SHA256
	}
	for name, value := range map[string]any{nodefs.Node: baked, nodefs.Release: p.Release, nodefs.Profile: p.Profile} {
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		files[name] = append(text, '\n')
	}
	for i, addon := range p.Release.Addons {
		text, err := fs.ReadFile(p.ReleaseFiles, addon)
		if err != nil {
			return fmt.Errorf("reading addon %s of release %s: %w", addon, p.Release.Name, err)
		}
		files[fmt.Sprintf("%s/%02d-%s", nodefs.Addons, i, addon)] = text
	}
	return nil
}

func presets(units map[string]bool) string {
	names := make([]string, 0, len(units))
	for name := range units {
		names = append(names, name)
	}
	sort.Strings(names)
	text := "# Units that the profile enables or disables.\n"
	for _, name := range names {
		text += map[bool]string{true: "enable ", false: "disable "}[units[name]] + name + "\n"
	}
	return text
}

// hashFS is a digest over the paths and contents of a tree.
func hashFS(tree fs.FS) (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, path)
		fmt.Fprintf(hash, "%s %d\n%s\n", path, len(text), text)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)), err
}
