// Package preload turns container images into the two things a node needs to run them without importing or unpacking
// anything: a read-only cache of EROFS layers, which containerd's erofs snapshotter mounts in place
// (layer_content_caches), and an OCI archive of manifests and configs alone.
package preload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/progress"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// Builder makes preload parts.
type Builder struct {
	Store    parts.Store
	Run      command.Runner
	Tools    rootfs.Tools
	Progress *progress.Reporter
	// Epoch is the time of every EROFS filesystem.
	Epoch time.Time
}

// Image is a container image under the name that pods use.
type Image struct {
	Name  string
	Image v1.Image
	// Packages is the text of a dpkg status file that names the Debian packages in it; empty when there are none.
	Packages string
}

// Preload is a finished part.
type Preload struct {
	parts.Part
	// Manifests maps each container image's name to its manifest's digest.
	Manifests map[string]string
	// Packages maps the name of each container image with Debian packages to the text of their dpkg status file.
	Packages map[string]string
	// LayerBytes is the size of the layer cache; RawBytes that of the layers' tars.
	LayerBytes, RawBytes int64
}

// LayersDir is the EROFS layer cache: <algorithm>/<xx>/<hex>.erofs, by diffID.
func (p Preload) LayersDir() string { return p.Path("layers") }

// Archive is the OCI archive without layer blobs.
func (p Preload) Archive() string { return p.Path("container-images.tar") }

// compression is how a layer's blocks are packed: lz4 costs a node the least to read, and what it costs in bytes over
// zstd is spent once, in the image. See docs/design.md for the measured sizes.
var compression = []string{"-zlz4hc,9", "-C65536"}

// Build makes the part called after inputs, which must name everything that the images are made from; images is called
// only when the part is not there yet.
func (b Builder) Build(ctx context.Context, inputs any, images func() ([]Image, error)) (Preload, error) {
	key := parts.Key("preload", "2", inputs, compression, b.Epoch.Unix())
	if part, ok := b.Store.Find(key); ok {
		return load(part)
	}
	task := b.Progress.Start("preload", "turning container images into mountable layers")
	part, err := b.Store.Make(ctx, key, func(ctx context.Context, dir string) error {
		list, err := images()
		if err != nil {
			return err
		}
		return b.fill(ctx, dir, list, task)
	})
	if err != nil {
		task.Fail()
		return Preload{}, fmt.Errorf("preloading container images: %w", err)
	}
	preload, err := load(part)
	task.Done(fmt.Sprintf("%d container images, %d MiB of layers from %d MiB", len(preload.Manifests), preload.LayerBytes>>20, preload.RawBytes>>20))
	return preload, err
}

// summary is what a part says of itself.
type summary struct {
	Manifests  map[string]string
	Packages   map[string]string
	LayerBytes int64
	RawBytes   int64
}

func load(part parts.Part) (Preload, error) {
	text, err := os.ReadFile(part.Path("summary.json"))
	if err != nil {
		return Preload{}, err
	}
	var s summary
	if err := json.Unmarshal(text, &s); err != nil {
		return Preload{}, fmt.Errorf("reading %s: %w", part.Path("summary.json"), err)
	}
	return Preload{Part: part, Manifests: s.Manifests, Packages: s.Packages, LayerBytes: s.LayerBytes, RawBytes: s.RawBytes}, nil
}

func (b Builder) fill(ctx context.Context, dir string, images []Image, task *progress.Task) error {
	s := summary{Manifests: map[string]string{}, Packages: map[string]string{}}
	for _, image := range images {
		layers, err := image.Image.Layers()
		if err != nil {
			return fmt.Errorf("container image %s: %w", image.Name, err)
		}
		for _, layer := range layers {
			if err := b.layer(ctx, filepath.Join(dir, "layers"), layer, &s); err != nil {
				return fmt.Errorf("container image %s: %w", image.Name, err)
			}
		}
		digest, err := image.Image.Digest()
		if err != nil {
			return fmt.Errorf("container image %s: %w", image.Name, err)
		}
		s.Manifests[image.Name] = digest.String()
		if image.Packages != "" {
			s.Packages[image.Name] = image.Packages
		}
		task.Say("%s", image.Name)
	}
	if err := writeArchive(filepath.Join(dir, "container-images.tar"), images); err != nil {
		return fmt.Errorf("writing the archive of manifests: %w", err)
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "summary.json"), append(text, '\n'), 0o644)
}

// layer converts one layer, unless another container image already brought it.
func (b Builder) layer(ctx context.Context, dir string, layer v1.Layer, s *summary) error {
	diffID, err := layer.DiffID()
	if err != nil {
		return err
	}
	out := LayerPath(dir, diffID)
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer content.Close()
	counted := &counter{Reader: content}
	if err := b.convert(ctx, out, counted, diffID); err != nil {
		return fmt.Errorf("converting layer %s: %w", diffID, err)
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	s.RawBytes += counted.n
	s.LayerBytes += info.Size()
	return nil
}

// convert runs mkfs.erofs as containerd does for its cache (--tar=f --aufs -Enoinline_data), with a fixed time and a
// UUID that follows from the diffID.
func (b Builder) convert(ctx context.Context, out string, tar io.Reader, diffID v1.Hash) error {
	uuid := diffID.Hex[:8] + "-" + diffID.Hex[8:12] + "-" + diffID.Hex[12:16] + "-" + diffID.Hex[16:20] + "-" + diffID.Hex[20:32]
	args := append([]string{"--tar=f", "--aufs", "--quiet", "-Enoinline_data", "-T", fmt.Sprint(b.Epoch.Unix()), "-U", uuid}, compression...)
	cmd := b.Tools.Command("mkfs.erofs", append(args, out)...)
	cmd.Stdin, cmd.Stdout = tar, io.Discard
	_, err := b.Run.Run(ctx, cmd)
	return err
}

// LayerPath is where the cache below dir keeps the layer called diffID.
func LayerPath(dir string, diffID v1.Hash) string {
	return filepath.Join(dir, diffID.Algorithm, diffID.Hex[:2], diffID.Hex+".erofs")
}

type counter struct {
	io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("reading the layer: %w", err)
	}
	return n, err
}
