package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/payload"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/images"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"

	"io/fs"
)

// imported is an archive as an operator would import it: the same container images, each layer as gzip.
type imported struct {
	archive string
	names   []string
}

// importArchive makes that archive once; its name holds the root hash of the image that it belongs to.
func importArchive(ctx context.Context, rootHash string) (imported, error) {
	files, err := fs.Sub(images.Releases, "releases/v1.36")
	if err != nil {
		return imported{}, err
	}
	text, err := fs.ReadFile(files, release.FileName)
	if err != nil {
		return imported{}, err
	}
	r, err := release.Parse(release.FileName, text)
	if err != nil {
		return imported{}, err
	}
	cache, _, err := kiln(ctx, "cache", "path")
	if err != nil {
		return imported{}, err
	}
	store := parts.Store{Dir: filepath.Join(cache, "parts")}
	debian := rootfs.Debian{Store: store, Run: command.Exec{}, Suite: r.Suite, Epoch: r.Timestamp}
	source := payload.Source{Store: store, Run: command.Exec{}, PackageTar: debian.PackageTar}
	provided, err := source.Provide(ctx, payload.Request{Release: r, Dir: "images/releases/v1.36", Files: files, Roles: []string{profile.ControlPlane}})
	if err != nil {
		return imported{}, err
	}
	result := imported{archive: filepath.Join("out", "bench-images-"+rootHash[:12]+".tar")}
	tagged := map[name.Tag]v1.Image{}
	for _, wanted := range provided.Images {
		image, err := provided.ContainerImage(ctx, wanted.Name)
		if err != nil {
			return imported{}, err
		}
		tag, err := name.NewTag(wanted.Name)
		if err != nil {
			return imported{}, err
		}
		if tagged[tag], err = asGzip(image, r.Timestamp); err != nil {
			return imported{}, err
		}
		result.names = append(result.names, wanted.Name)
	}
	if _, err := os.Stat(result.archive); err == nil {
		return result, nil
	}
	partial := result.archive + ".part"
	return result, errors.Join(tarball.MultiWriteToFile(partial, tagged), os.Rename(partial, result.archive))
}

// asGzip is the same container image with its layers compressed as registries hold them.
func asGzip(image v1.Image, at time.Time) (v1.Image, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	result := v1.Image(empty.Image)
	for _, layer := range layers {
		compressed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return layer.Uncompressed() }, tarball.WithCompressionLevel(6))
		if err != nil {
			return nil, err
		}
		if result, err = mutate.AppendLayers(result, compressed); err != nil {
			return nil, err
		}
	}
	written, err := result.ConfigFile()
	if err != nil {
		return nil, err
	}
	written = written.DeepCopy()
	written.Config, written.OS, written.Architecture, written.Created = config.Config, config.OS, config.Architecture, v1.Time{Time: at}
	return mutate.ConfigFile(result, written)
}
