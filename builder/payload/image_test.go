package payload

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kiln-os/kiln/internal/document"
)

// debian is an extracted tree as mmdebstrap leaves it, names as tar has them.
func debian() []tar.Header {
	return []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./dev/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/apt/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/apt/sources.list", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./etc/apt.conf", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./etc/hostname", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./etc/resolv.conf", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./sbin", Typeflag: tar.TypeSymlink, Linkname: "/usr/sbin", Mode: 0o777},
		{Name: "./tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/lib64/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/lib64/ld.so", Typeflag: tar.TypeReg, Mode: 0o755},
		{Name: "./usr/sbin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/sbin/nft", Typeflag: tar.TypeReg, Mode: 0o755},
		{Name: "./usr/sbin/aaa", Typeflag: tar.TypeLink, Linkname: "./usr/sbin/nft", Mode: 0o755},
		{Name: "./usr/sbin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Gid: 42, Gname: "shadow"},
		{Name: "./usr/sbin/xtables-nft-multi", Typeflag: tar.TypeReg, Mode: 0o755},
		{Name: "./usr/sbin/iptables-nft", Typeflag: tar.TypeSymlink, Linkname: "xtables-nft-multi", Mode: 0o777},
		{Name: "./usr/sbin/iptables-nft-save", Typeflag: tar.TypeSymlink, Linkname: "xtables-nft-multi", Mode: 0o777},
		{Name: "./usr/share/doc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/share/doc/nftables/copyright", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./usr/share/locale/de", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./var/cache/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./var/lib/dpkg/status", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "./var/log/mmdebstrap.log", Typeflag: tar.TypeReg, Mode: 0o644},
	}
}

// extractedTree is the tree as a tar in a random order, at a random time: two extractions are never the same.
func extractedTree(t *testing.T) []byte {
	t.Helper()
	members := debian()
	// A hard link comes after its file in every tar.
	rand.Shuffle(10, func(i, j int) { members[i], members[j] = members[j], members[i] })
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, header := range members {
		header.ModTime = time.Unix(rand.Int64N(1<<30), 0)
		if header.Typeflag == tar.TypeReg {
			header.Size = int64(len(header.Name))
		}
		if err := archive.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			io.WriteString(archive, header.Name)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// dump lists a layer: one line a member, with everything that a digest depends on but the content itself.
func dump(t *testing.T, layer v1.Layer, at time.Time) string {
	t.Helper()
	stream, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var out strings.Builder
	archive := tar.NewReader(stream)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return strings.TrimSpace(out.String())
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(at) || header.Uname+header.Gname != "" {
			t.Errorf("%s: time %s, owner %q:%q; want %s and numbers alone", header.Name, header.ModTime, header.Uname, header.Gname, at)
		}
		fmt.Fprintf(&out, "%c %04o %d:%d %s", header.Typeflag, header.Mode, header.Uid, header.Gid, header.Name)
		if header.Linkname != "" {
			fmt.Fprintf(&out, " -> %s", header.Linkname)
		}
		out.WriteByte('\n')
	}
}

const wantPackages = `
5 0755 0:0 dev/
5 0755 0:0 etc/
0 0644 0:0 etc/apt.conf
2 0777 0:0 lib64 -> usr/lib64
2 0777 0:0 sbin -> /usr/sbin
5 1777 0:0 tmp/
5 0755 0:0 usr/
5 0755 0:0 usr/lib64/
0 0755 0:0 usr/lib64/ld.so
5 0755 0:0 usr/sbin/
2 0777 0:0 usr/sbin/iptables -> iptables-nft
2 0777 0:0 usr/sbin/iptables-nft -> xtables-nft-multi
2 0777 0:0 usr/sbin/iptables-nft-save -> xtables-nft-multi
2 0777 0:0 usr/sbin/iptables-save -> iptables-nft-save
0 0755 0:0 usr/sbin/nft
0 4755 0:42 usr/sbin/su
0 0755 0:0 usr/sbin/xtables-nft-multi
1 0755 0:0 usr/sbin/aaa -> usr/sbin/nft`

func TestContainerImage(t *testing.T) {
	for _, row := range []struct{ name, config, layers string }{
		{
			"registry.example.org/pause:3.10",
			`{"architecture":"amd64","created":"2026-09-15T00:00:00Z","history":[{"created":"2026-09-15T00:00:00Z","created_by":"kiln: binaries"}],"os":"linux",` +
				`"rootfs":{"type":"layers","diff_ids":[DIFFIDS]},"config":{"Entrypoint":["/pause"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"User":"65535:65535","WorkingDir":"/"}}`,
			"0 0755 0:0 pause\n5 1777 0:0 tmp/",
		},
		{
			"registry.example.org/kube-proxy:v1.2.3",
			`{"architecture":"amd64","created":"2026-09-15T00:00:00Z","history":[{"created":"2026-09-15T00:00:00Z","created_by":"kiln: Debian packages"},` +
				`{"created":"2026-09-15T00:00:00Z","created_by":"kiln: binaries"}],"os":"linux","rootfs":{"type":"layers","diff_ids":[DIFFIDS]},` +
				`"config":{"Entrypoint":["/usr/local/bin/kube-proxy"],"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"}}`,
			wantPackages + "\n\n5 0755 0:0 usr/\n5 0755 0:0 usr/local/\n5 0755 0:0 usr/local/bin/\n0 0755 0:0 usr/local/bin/kube-proxy",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			image := provideImage(t, w, t.TempDir(), row.name)
			layers, err := image.Layers()
			if err != nil {
				t.Fatal(err)
			}
			var dumps, diffIDs []string
			for _, layer := range layers {
				dumps = append(dumps, dump(t, layer, w.timestamp()))
				stream, err := layer.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				digest, size, err := v1.SHA256(stream)
				if err != nil {
					t.Fatal(err)
				}
				diffIDs = append(diffIDs, `"`+digest.String()+`"`)
				if found, err := image.LayerByDigest(digest); err != nil || found != layer {
					t.Errorf("layer %s is not found by the digest of its bytes: %v", digest, err)
				}
				if got, err := layer.Size(); err != nil || got != size {
					t.Errorf("layer %s says it has %d bytes and has %d", digest, got, size)
				}
			}
			if got := strings.Join(dumps, "\n\n"); got != strings.TrimSpace(row.layers) {
				t.Errorf("layers:\n%s\nwant:\n%s", got, strings.TrimSpace(row.layers))
			}
			config, err := image.RawConfigFile()
			if want := strings.Replace(row.config, "DIFFIDS", strings.Join(diffIDs, ","), 1); err != nil || string(config) != want {
				t.Errorf("config (%v):\n%s\nwant:\n%s", err, config, want)
			}
			checkManifest(t, image)
		})
	}
}

// checkManifest compares the manifest with what it describes.
func checkManifest(t *testing.T, image v1.Image) {
	t.Helper()
	raw, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := v1.SHA256(bytes.NewReader(raw))
	if got, digestErr := image.Digest(); err != nil || digestErr != nil || got != want {
		t.Errorf("the image's digest is %s, its manifest's %s", got, want)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.LayerByDigest(manifest.Config.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := config.Digest(); err != nil || digest != manifest.Config.Digest {
		t.Errorf("the config's digest is %s, the manifest says %s (%v)", digest, manifest.Config.Digest, err)
	}
	if string(manifest.MediaType) != "application/vnd.oci.image.manifest.v1+json" || string(manifest.Layers[0].MediaType) != "application/vnd.oci.image.layer.v1.tar" {
		t.Errorf("media types %s and %s; want those of OCI", manifest.MediaType, manifest.Layers[0].MediaType)
	}
}

func TestContainerImageIsTheSameFromAnotherBuild(t *testing.T) {
	const name = "registry.example.org/kube-proxy:v1.2.3"
	first, err := provideImage(t, newWorld(t), t.TempDir(), name).Digest()
	if err != nil {
		t.Fatal(err)
	}
	second, err := provideImage(t, newWorld(t), t.TempDir(), name).Digest()
	if err != nil || first != second {
		t.Errorf("two builds in two stores gave %s and %s (%v)", first, second, err)
	}
}

// The layer has no dpkg database; who wants to know what is in it asks for it beside the image.
func TestPackageStatus(t *testing.T) {
	w := newWorld(t)
	payload, err := w.source(t.TempDir()).Provide(context.Background(), w.request())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"registry.example.org/kube-proxy:v1.2.3": "./var/lib/dpkg/status", // each file of the tree holds its own name
		"registry.example.org/pause:3.10":        "",
		"registry.example.org/nosuch:1":          "",
	} {
		if got, err := payload.PackageStatus(context.Background(), name); err != nil || string(got) != want {
			t.Errorf("%s: have %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestPackageLayerIsVerified(t *testing.T) {
	const name = "registry.example.org/kube-proxy:v1.2.3"
	w := newWorld(t)
	store := t.TempDir()
	extracted := filepath.Join(t.TempDir(), "fixed.tar")
	writeFile(t, extracted, string(extractedTree(t)), 0o644)
	source := w.source(store)
	source.PackageTar = func(context.Context, []string) (string, error) { return extracted, nil }
	payload, err := source.Provide(context.Background(), w.request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := payload.ContainerImage(context.Background(), name); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(store, "layer-packages-*", "layer.tar"))
	if err != nil || len(found) != 1 {
		t.Fatalf("package layers: %v, %v", found, err)
	}
	if err := os.WriteFile(found[0], []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = payload.ContainerImage(context.Background(), name)
	if !document.IsInvalid(err) || !strings.Contains(err.Error(), found[0]+": SHA-256 is ") {
		t.Errorf("got %v; want a problem of %s", err, found[0])
	}
}

func provideImage(t *testing.T, w *world, store, name string) v1.Image {
	t.Helper()
	payload, err := w.source(store).Provide(context.Background(), w.request())
	if err != nil {
		t.Fatal(err)
	}
	image, err := payload.ContainerImage(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return image
}
