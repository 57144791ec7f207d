package preload

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// annotationName is the index annotation that containerd takes an image's name from.
const annotationName = "io.containerd.image.name"

// writeArchive writes an OCI image layout as a tar: index, manifests and configs, but no layers. containerd finds those
// in the layer cache by the diffIDs of the configs.
func writeArchive(out string, images []Image) error {
	blobs := map[string][]byte{}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, image := range images {
		manifest, err := image.Image.RawManifest()
		if err != nil {
			return err
		}
		digest, err := image.Image.Digest()
		if err != nil {
			return err
		}
		config, err := image.Image.RawConfigFile()
		if err != nil {
			return err
		}
		configDigest, err := image.Image.ConfigName()
		if err != nil {
			return err
		}
		mediaType, err := image.Image.MediaType()
		if err != nil {
			return err
		}
		blobs["blobs/sha256/"+digest.Hex], blobs["blobs/sha256/"+configDigest.Hex] = manifest, config
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: mediaType, Digest: digest, Size: int64(len(manifest)),
			Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}, Annotations: map[string]string{annotationName: image.Name},
		})
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	blobs["index.json"], blobs["oci-layout"] = text, []byte(`{"imageLayoutVersion":"1.0.0"}`)
	return writeTar(out, blobs)
}

func writeTar(out string, files map[string][]byte) error {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, name := range names {
		if err := writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return err
		}
		if _, err := writer.Write(files[name]); err != nil {
			return err
		}
	}
	if err := writer.Close(); err != nil {
		return err
	}
	return os.WriteFile(out, buffer.Bytes(), 0o644)
}
