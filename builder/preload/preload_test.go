package preload

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

func image(t *testing.T, layers ...string) v1.Image {
	t.Helper()
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, text := range layers {
		var err error
		if base, err = mutate.AppendLayers(base, static.NewLayer([]byte(text), types.OCIUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

func testImages(t *testing.T) []Image {
	return []Image{
		{Name: "registry.example.org/one:v1", Image: image(t, "shared layer", "layer of one")},
		{Name: "registry.example.org/two:v2", Image: image(t, "shared layer", "layer of two")},
	}
}

// readTar reads a tar into names in order and contents.
func readTar(t *testing.T, path string) (names []string, contents map[string][]byte) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	contents = map[string][]byte{}
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return names, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		if names = append(names, header.Name); !header.ModTime.IsZero() && header.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %s", header.Name, header.ModTime)
		}
		if contents[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

func TestArchive(t *testing.T) {
	images := testImages(t)
	out := filepath.Join(t.TempDir(), "images.tar")
	if err := writeArchive(out, images); err != nil {
		t.Fatal(err)
	}
	names, contents := readTar(t, out)
	if !slices.IsSorted(names) {
		t.Errorf("the names are not sorted: %v", names)
	}
	if got := string(contents["oci-layout"]); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", got)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(contents["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	expected := map[string]bool{"index.json": true, "oci-layout": true}
	for i, image := range images {
		digest, err := image.Image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.Image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		entry := index.Manifests[i]
		if entry.Annotations["io.containerd.image.name"] != image.Name || entry.Digest != digest || entry.MediaType != types.OCIManifestSchema1 ||
			entry.Platform == nil || entry.Platform.String() != "linux/amd64" {
			t.Errorf("the index says %+v of %s", entry, image.Name)
		}
		for _, blob := range []v1.Hash{digest, config} {
			name := "blobs/sha256/" + blob.Hex
			expected[name] = true
			if got, _, err := v1.SHA256(strings.NewReader(string(contents[name]))); err != nil || got != blob {
				t.Errorf("%s has the digest %s, %v", name, got, err)
			}
		}
		if int64(len(contents["blobs/sha256/"+digest.Hex])) != entry.Size {
			t.Errorf("the manifest of %s has %d bytes, the index says %d", image.Name, len(contents["blobs/sha256/"+digest.Hex]), entry.Size)
		}
	}
	for _, name := range names {
		if !expected[name] {
			t.Errorf("the archive holds %s, which is no manifest and no config", name)
		}
	}
	if len(names) != len(expected) {
		t.Errorf("the archive holds %v; want %d files", names, len(expected))
	}
	again := out + "2"
	if err := writeArchive(again, testImages(t)); err != nil {
		t.Fatal(err)
	}
	first, err := parts.SHA256File(out)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := parts.SHA256File(again); err != nil || second != first {
		t.Errorf("the same images have other bytes the second time (%v)", err)
	}
}

// converter plays mkfs.erofs: the filesystem is the tar in capitals.
type converter struct{ commands [][]string }

// Run implements command.Runner.
func (c *converter) Run(_ context.Context, cmd command.Command) (command.Usage, error) {
	c.commands = append(c.commands, cmd.Args)
	text, err := io.ReadAll(cmd.Stdin)
	if err != nil {
		return command.Usage{}, err
	}
	return command.Usage{}, os.WriteFile(cmd.Args[len(cmd.Args)-1], []byte(strings.ToUpper(string(text))), 0o644)
}

func TestBuild(t *testing.T) {
	c := &converter{}
	b := Builder{Store: parts.Store{Dir: t.TempDir()}, Run: c, Tools: rootfs.Tools{Dir: "/tools"}, Epoch: time.Unix(1789430400, 0)}
	images := testImages(t)
	made, err := b.Build(t.Context(), "inputs", func() ([]Image, error) { return images, nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(c.commands) != 3 {
		t.Errorf("%d layers were converted; want 3, one of them for both images", len(c.commands))
	}
	var raw int64
	for _, text := range []string{"shared layer", "layer of one", "layer of two"} {
		diffID, _, err := v1.SHA256(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		path := LayerPath(made.LayersDir(), diffID)
		if got, err := os.ReadFile(path); err != nil || string(got) != strings.ToUpper(text) {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
		raw += int64(len(text))
	}
	if made.RawBytes != raw || made.LayerBytes != raw {
		t.Errorf("sizes are %d and %d; want %d", made.RawBytes, made.LayerBytes, raw)
	}
	for _, image := range images {
		if digest, err := image.Image.Digest(); err != nil || made.Manifests[image.Name] != digest.String() {
			t.Errorf("manifest of %s is %s; want %s, %v", image.Name, made.Manifests[image.Name], digest, err)
		}
	}
	line := strings.Join(c.commands[0], " ")
	for _, want := range []string{"--tar=f --aufs", "-Enoinline_data", "-T 1789430400", "-U "} {
		if !strings.Contains(line, want) {
			t.Errorf("mkfs.erofs runs without %s: %s", want, line)
		}
	}

	again, err := b.Build(t.Context(), "inputs", func() ([]Image, error) { return nil, errors.New("asked for images of a part that is there") })
	if err != nil || again.Dir != made.Dir || again.LayerBytes != made.LayerBytes || len(again.Manifests) != len(made.Manifests) {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	if other, err := b.Build(t.Context(), "other inputs", func() ([]Image, error) { return images[:1], nil }); err != nil || other.Dir == made.Dir {
		t.Errorf("other inputs: %+v, %v", other, err)
	}
}

func TestBuildNamesTheImage(t *testing.T) {
	b := Builder{Store: parts.Store{Dir: t.TempDir()}, Run: broken{}, Tools: rootfs.Tools{Dir: "/tools"}}
	_, err := b.Build(t.Context(), "inputs", func() ([]Image, error) { return testImages(t), nil })
	if err == nil || !strings.HasPrefix(err.Error(), "preloading container images: container image registry.example.org/one:v1: converting layer sha256:") {
		t.Errorf("error is %v", err)
	}
}

type broken struct{}

// Run implements command.Runner.
func (broken) Run(context.Context, command.Command) (command.Usage, error) {
	return command.Usage{}, errors.New("mkfs.erofs ended with exit code 1")
}

func TestLayerPath(t *testing.T) {
	// containerd's erofs snapshotter looks for layers by this rule (layer_content_caches).
	hash := v1.Hash{Algorithm: "sha256", Hex: "ab" + strings.Repeat("0", 62)}
	if got, want := LayerPath("/cache", hash), "/cache/sha256/ab/ab"+strings.Repeat("0", 62)+".erofs"; got != want {
		t.Errorf("path is %s; want %s", got, want)
	}
}
