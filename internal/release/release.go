// Package release defines the Release document: which Kubernetes, containerd, etcd, CoreDNS, CNI and pause a node
// image carries, every binary and container image pinned.
package release

import (
	_ "embed"
	"path"
	"time"

	"github.com/kiln-os/kiln/internal/document"
)

// Kind is the document's kind.
const Kind = "Release"

// Release pins everything of a node image that does not come from Debian packages.
type Release struct {
	document.Header
	// Name is how a build and an identity name the release, as in v1.36.
	Name string `json:"name"`
	// Description says in one sentence what the release is.
	Description string `json:"description,omitempty"`
	// Kubernetes is the version of the cluster's components, as in v1.36.3.
	Kubernetes string `json:"kubernetes"`
	// Timestamp is the time of every file in the image (RFC 3339), and the earliest time that a node takes for true.
	Timestamp time.Time `json:"timestamp"`
	// Suite is the Debian suite that the operating system's packages come from.
	Suite string `json:"suite"`
	// Packages are the Debian packages of every node, without the kernel, which the image adds.
	Packages []string `json:"packages"`
	// Programs are single files of further Debian packages, whose dependencies are not installed with them.
	Programs []Programs `json:"programs,omitempty"`
	// Sources are the pinned modules that the binaries are built from.
	Sources []Source `json:"sources"`
	// Node lists the binaries that lie in the node's own root.
	Node []NodeBinary `json:"node"`
	// ContainerImages are baked into the image, ready to run.
	ContainerImages []ContainerImage `json:"containerImages"`
	// Addons are manifests beside the release document that the initialising node applies, in order.
	Addons []string `json:"addons,omitempty"`
}

// Programs takes files out of one Debian package. It is for a package that wants far more than the programs that are
// needed of it: what these link has to be among the release's packages.
type Programs struct {
	// Package is the Debian package.
	Package string `json:"package"`
	// Files are paths within it, which are the paths on the node.
	Files []string `json:"files"`
}

// Source is one pinned module and the binaries built from it. Beside the release document lie NAME.mod and NAME.sum:
// a go.mod and a go.sum under names that let Go embed them.
type Source struct {
	// Name names the source and its .mod and .sum files.
	Name string `json:"name"`
	// Module is the Go module's path.
	Module string `json:"module"`
	// Version is the module's version, the one that NAME.mod requires.
	Version string `json:"version"`
	// Reports is the version that the binaries report of themselves, when it is not the module's.
	Reports string `json:"reports,omitempty"`
	// Tags are Go build tags.
	Tags []string `json:"tags,omitempty"`
	// Cgo builds with a C compiler, linked statically.
	Cgo bool `json:"cgo,omitempty"`
	// Libraries are Debian packages of the release's suite with the C libraries that a cgo source links, and libc6-dev: the
	// host's own are then not looked at.
	Libraries []string `json:"libraries,omitempty"`
	// Stamp sets package variables at link time, importpath.name to value.
	Stamp map[string]string `json:"stamp,omitempty"`
	// Binaries are the programs built from the source, by name.
	Binaries []Binary `json:"binaries"`
}

// Binary is one static program.
type Binary struct {
	// Name is the program's file name.
	Name string `json:"name"`
	// Package is the Go package to build; for a C program, the file within the module.
	Package string `json:"package"`
	// Language is go (the default) or c.
	Language string `json:"language,omitempty"`
}

// NodeBinary places a built binary in the node's root.
type NodeBinary struct {
	// Binary names a binary of one of the sources.
	Binary string `json:"binary"`
	// Path is where it lies in the node's root.
	Path string `json:"path"`
}

// ContainerImage is one container image, under the exact name by which pods refer to it.
type ContainerImage struct {
	// Name is the full reference, as in registry.k8s.io/kube-proxy:v1.36.3.
	Name string `json:"name"`
	// Roles are the node roles that need it: control-plane, worker.
	Roles []string `json:"roles"`
	// Packages are Debian packages that make up the image's first layer, with all that they depend on.
	Packages []string `json:"packages,omitempty"`
	// Files are the binaries of its own layer.
	Files []NodeBinary `json:"files"`
	// Entrypoint is run when the pod names no command.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// User runs the entrypoint, as uid or uid:gid; empty is root.
	User string `json:"user,omitempty"`
	// Sandbox marks the one image that every pod's sandbox runs (pause).
	Sandbox bool `json:"sandbox,omitempty"`
}

// FileName is the conventional name of a release's document inside its directory.
const FileName = "release.yaml"

// Parse reads a Release document; file is the name for messages.
func Parse(file string, text []byte) (Release, error) {
	var r Release
	if err := document.Decode(file, text, Kind, &r); err != nil {
		return Release{}, err
	}
	return r, r.validate(file)
}

// Images lists the container images that a node of role needs.
func (r Release) Images(role string) []ContainerImage {
	var images []ContainerImage
	for _, image := range r.ContainerImages {
		for _, candidate := range image.Roles {
			if candidate == role {
				images = append(images, image)
				break
			}
		}
	}
	return images
}

// SandboxImage is the reference of the pause image.
func (r Release) SandboxImage() string {
	for _, image := range r.ContainerImages {
		if image.Sandbox {
			return image.Name
		}
	}
	return ""
}

// Binary finds a binary and its source by the binary's name.
func (r Release) Binary(name string) (Source, Binary, bool) {
	for _, source := range r.Sources {
		for _, binary := range source.Binaries {
			if binary.Name == name {
				return source, binary, true
			}
		}
	}
	return Source{}, Binary{}, false
}

// Baked is what a node image knows of itself: the builder writes it into the root, firstboot and the initramfs read it.
// It does not name the Image document: one root is in images of several formats, and the platform is on the kernel
// command line.
type Baked struct {
	// Profile and Release are the names of the documents the image was built from.
	Profile string `json:"profile"`
	Release string `json:"release"`
	// Role is the profile's role: control-plane or worker.
	Role string `json:"role"`
	// Version identifies the content: the release's Kubernetes version and a digest of all inputs, as in v1.36.3-4f1c2ab0.
	Version string `json:"version"`
	// Kubernetes is the version kubeadm is told to deploy.
	Kubernetes string `json:"kubernetes"`
	// Timestamp is the release's.
	Timestamp time.Time `json:"timestamp"`
	// SandboxImage is the reference that both containerd and kubeadm use for pause.
	SandboxImage string `json:"sandboxImage"`
	// ContainerImages maps the reference of each baked container image to its manifest's digest.
	ContainerImages map[string]string `json:"containerImages"`
	// Files maps the path of each baked binary to its SHA-256 in hex.
	Files map[string]string `json:"files"`
}

func (r Release) validate(file string) error {
	p := &document.Problems{File: file}
	checkRelease(p, r)
	return p.Err()
}

// Base is the last element of a container image's reference without its tag, as in kube-proxy.
func (c ContainerImage) Base() string {
	base := path.Base(c.Name)
	for i := range base {
		if base[i] == ':' || base[i] == '@' {
			return base[:i]
		}
	}
	return base
}

// Text is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed release.go
var Text string
