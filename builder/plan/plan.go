package plan

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// Options name the three documents of a build, each by name or by path.
type Options struct {
	Image   string
	Profile string
	Release string
	Sources Sources
}

// Documents are the texts that a plan is resolved from.
type Documents struct {
	Image   Document
	Profile Document
	Release Document
	// Overlay is the tree that every image gets: its presets say which units are enabled. It may be nil.
	Overlay fs.FS
}

// Plan is what a build is going to do: complete and checked.
type Plan struct {
	Image Image
	// ImageFile is the document's name in messages.
	ImageFile string
	Profile   profile.Profile
	Release   release.Release
	// ReleaseFiles is the release document's directory, with NAME.mod and NAME.sum of each source and the addons.
	ReleaseFiles fs.FS
	// ReleaseDir is that directory's name in messages.
	ReleaseDir string
	// Packages are all Debian packages of the root but the kernel, by name, sorted, each once.
	Packages []string
	// ContainerImages are those of the profile's role.
	ContainerImages []release.ContainerImage
	// Units are what is enabled or disabled, sorted by name.
	Units []Unit
}

// Resolve reads the three documents and makes them one plan. The error joins every problem of all three, the
// contradictions between them, and an Unknown for each name that leads nowhere.
func Resolve(o Options) (Plan, error) {
	documents, err := Read(o)
	if err != nil {
		return Plan{}, err
	}
	return FromDocuments(documents)
}

// Read finds the three documents.
func Read(o Options) (Documents, error) {
	image, imageErr := o.Sources.Read(ImageKind, o.Image)
	role, profileErr := o.Sources.Read(profile.Kind, o.Profile)
	pinned, releaseErr := o.Sources.Read(release.Kind, o.Release)
	if err := errors.Join(imageErr, profileErr, releaseErr); err != nil {
		return Documents{}, err
	}
	return Documents{Image: image, Profile: role, Release: pinned, Overlay: o.Sources.Overlay}, nil
}

// FromDocuments makes one plan of three documents.
func FromDocuments(d Documents) (Plan, error) {
	image, imageErr := ParseImage(d.Image.File, d.Image.Text)
	role, profileErr := profile.Parse(d.Profile.File, d.Profile.Text)
	pinned, releaseErr := release.Parse(d.Release.File, d.Release.Text)
	if err := errors.Join(imageErr, profileErr, releaseErr); err != nil {
		return Plan{}, err
	}
	p := Plan{
		Image:           image,
		ImageFile:       d.Image.File,
		Profile:         role,
		Release:         pinned,
		ReleaseFiles:    d.Release.Dir,
		ReleaseDir:      path.Dir(d.Release.File),
		Packages:        sortedSet(pinned.Packages, image.Packages, role.Packages),
		ContainerImages: pinned.Images(role.Role),
		Units:           units(d.Overlay, role),
	}
	return p, checkTogether(d, p)
}

// CommandLine is the kernel's command line for a root of the given verity root hash in hex.
func (p Plan) CommandLine(rootHash string) string {
	arguments := []string{
		nodefs.ParamRootHash + "=" + rootHash,
		nodefs.ParamPlatform + "=" + p.Image.Platform,
		// A kernel that cannot go on gives somebody a minute to read why, then starts the machine again.
		"panic=60",
		// The kernel may use the backup partition table when a power cut has spoilt the first.
		"gpt",
		// The initramfs has mounted everything, and nobody is there to answer questions.
		"systemd.gpt_auto=no", "systemd.firstboot=no",
		// systemd would wait for the partitions of a root hash to open them once more, and a live system has none.
		"systemd.verity=no",
	}
	return strings.Join(append(arguments, p.Image.KernelArguments...), " ")
}

// Binaries lists, sorted, the binaries of the release that the node's root and its role's container images hold.
func (p Plan) Binaries() []string {
	var names []string
	for _, file := range p.Release.Node {
		names = append(names, file.Binary)
	}
	for _, image := range p.ContainerImages {
		for _, file := range image.Files {
			names = append(names, file.Binary)
		}
	}
	return sortedSet(names)
}

func sortedSet(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}
