package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kiln-os/kiln/internal/release"
)

// searchPath is where a pod's command without a slash is looked for, as kubeadm's static pods have it.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// containerImage makes an OCI image of one layer of Debian packages, if it has any, and one of the image's own files.
// Everything in it follows from the release, so that its digest does too.
func (s Source) containerImage(ctx context.Context, image release.ContainerImage, binaries map[string]Binary, at time.Time) (v1.Image, error) {
	var layers []*tarLayer
	var what []string
	if len(image.Packages) > 0 {
		layer, err := s.packageLayer(ctx, image.Packages, at)
		if err != nil {
			return nil, fmt.Errorf("making the package layer of %s: %w", image.Name, err)
		}
		layers, what = append(layers, layer), append(what, "kiln: Debian packages")
	}
	layer, err := fileLayer(image, binaries, at)
	if err != nil {
		return nil, fmt.Errorf("making the layer of %s: %w", image.Name, err)
	}
	layers, what = append(layers, layer), append(what, "kiln: binaries")
	config := v1.ConfigFile{
		OS: "linux", Architecture: "amd64", Created: v1.Time{Time: at.UTC()},
		Config: v1.Config{Env: []string{searchPath}, Entrypoint: image.Entrypoint, User: image.User, WorkingDir: "/"},
		RootFS: v1.RootFS{Type: "layers"},
	}
	for _, created := range what {
		config.History = append(config.History, v1.History{Created: config.Created, CreatedBy: created})
	}
	made, err := newOCIImage(config, layers)
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", image.Name, err)
	}
	return made, nil
}

// ociImage is an OCI image whose manifest and config are fixed texts; it implements v1.Image.
type ociImage struct {
	layers               []*tarLayer
	manifest, config     []byte
	digest, configDigest v1.Hash
}

// newOCIImage takes the layers' digests and writes the config, completed by the diffIDs, and the manifest.
func newOCIImage(config v1.ConfigFile, layers []*tarLayer) (*ociImage, error) {
	made := &ociImage{layers: layers}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return nil, fmt.Errorf("reading a layer: %w", err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest)
		manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: layer.size, Digest: digest})
	}
	var err error
	if made.config, made.configDigest, err = marshal(config); err != nil {
		return nil, err
	}
	manifest.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(made.config)), Digest: made.configDigest}
	made.manifest, made.digest, err = marshal(manifest)
	return made, err
}

func marshal(v any) ([]byte, v1.Hash, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, v1.Hash{}, fmt.Errorf("writing JSON: %w", err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(text))
	return text, digest, err
}

// Layers lists the layers from the bottom up.
func (i *ociImage) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.layers))
	for n, layer := range i.layers {
		layers[n] = layer
	}
	return layers, nil
}

// LayerByDigest finds a layer, or the config, which the interface counts among them.
func (i *ociImage) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	if digest == i.configDigest {
		return &tarLayer{media: types.OCIConfigJSON, open: opener(i.config)}, nil
	}
	return i.LayerByDiffID(digest)
}

// LayerByDiffID finds a layer.
func (i *ociImage) LayerByDiffID(diffID v1.Hash) (v1.Layer, error) {
	for _, layer := range i.layers {
		if layer.digest == diffID {
			return layer, nil
		}
	}
	return nil, fmt.Errorf("finding layer %s: the image has none", diffID)
}

// The other methods of v1.Image are read from the two texts.
func (i *ociImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (i *ociImage) Size() (int64, error)                { return int64(len(i.manifest)), nil }
func (i *ociImage) Digest() (v1.Hash, error)            { return i.digest, nil }
func (i *ociImage) ConfigName() (v1.Hash, error)        { return i.configDigest, nil }
func (i *ociImage) RawManifest() ([]byte, error)        { return i.manifest, nil }
func (i *ociImage) RawConfigFile() ([]byte, error)      { return i.config, nil }
func (i *ociImage) Manifest() (*v1.Manifest, error) {
	return v1.ParseManifest(bytes.NewReader(i.manifest))
}
func (i *ociImage) ConfigFile() (*v1.ConfigFile, error) {
	return v1.ParseConfigFile(bytes.NewReader(i.config))
}
