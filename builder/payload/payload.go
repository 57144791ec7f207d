// Package payload provides what a node image carries beside Debian's packages: Kubernetes, containerd, etcd, CoreDNS
// and CNI as pinned binaries and container images.
//
// A Provider is one way to get them. Source builds every binary from the Go module proxy, pinned by the go.sum files
// beside the release document, and makes the container images around them: the same release gives the same bytes.
package payload

import (
	"context"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kiln-os/kiln/internal/release"
)

// Provider gets the payload of a release: from source, a registry or a bundle.
type Provider interface {
	Provide(ctx context.Context, r Request) (Payload, error)
}

// Request says which payload is wanted.
type Request struct {
	// Release is the checked document.
	Release release.Release
	// Dir is the release's directory as the user knows it, for messages.
	Dir string
	// Files is that directory: NAME.mod and NAME.sum of every source.
	Files fs.FS
	// Roles choose the container images: those that a node of one of the roles needs. Empty means all.
	Roles []string
}

// Payload is everything a release brings, present and verified.
type Payload struct {
	// Binaries are the node's binaries and those of the wanted container images, by name.
	Binaries map[string]Binary
	// Images are the wanted container images, in the release's order.
	Images []release.ContainerImage
	// Recipe changes when the same binaries and packages begin to give other container images: it belongs, beside the
	// binaries' digests, in the key of whatever is made from the images.
	Recipe string

	image func(ctx context.Context, image release.ContainerImage) (v1.Image, error)
	// status, when set, is the dpkg database of an image's Debian packages.
	status func(ctx context.Context, image release.ContainerImage) ([]byte, error)
}

// Binary is one verified static program on the builder's disk.
type Binary struct {
	// Path is where it lies in the part cache: to be read, never to be changed or moved.
	Path string
	// SHA256 is the digest of its bytes, in hex.
	SHA256 string
	// Size is its length in bytes.
	Size int64
	// Version is the one it reports of itself, as in v1.36.3.
	Version string
}

// ContainerImage makes the container image called name, by its full reference. It is lazy: a layer's bytes are made
// when they are read, and again each time. Its layers are not compressed, so that a layer's digest is its diffID: a node
// mounts them from the EROFS layer cache and never sees the blobs.
func (p Payload) ContainerImage(ctx context.Context, name string) (v1.Image, error) {
	for _, image := range p.Images {
		if image.Name == name {
			return p.image(ctx, image)
		}
	}
	return nil, fmt.Errorf("finding container image %s: it is not among the %d of this payload", name, len(p.Images))
}

// PackageStatus is the text of a dpkg status file that names the Debian packages in the container image called name:
// nil when it has none, or when nobody knows them.
func (p Payload) PackageStatus(ctx context.Context, name string) ([]byte, error) {
	for _, image := range p.Images {
		if image.Name == name && p.status != nil {
			return p.status(ctx, image)
		}
	}
	return nil, nil
}

// wanted lists the container images of the request's roles and the names of all binaries that are needed.
func (r Request) wanted() ([]release.ContainerImage, map[string]bool) {
	binaries := map[string]bool{}
	for _, binary := range r.Release.Node {
		binaries[binary.Binary] = true
	}
	var images []release.ContainerImage
	for _, image := range r.Release.ContainerImages {
		if !r.wants(image) {
			continue
		}
		images = append(images, image)
		for _, file := range image.Files {
			binaries[file.Binary] = true
		}
	}
	return images, binaries
}

func (r Request) wants(image release.ContainerImage) bool {
	for _, role := range r.Roles {
		for _, candidate := range image.Roles {
			if role == candidate {
				return true
			}
		}
	}
	return len(r.Roles) == 0
}
