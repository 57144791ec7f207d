package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

// RootHashUnknown stands in a printed command line for the root hash, which only a build knows.
const RootHashUnknown = "<root-hash>"

// Description is a plan as `kiln show --json` prints it. Its fields stay as they are between versions. Steps are the
// builder's to fill in: a plan says what, not how.
type Description struct {
	Image           ImageFacts       `json:"image"`
	Profile         ProfileFacts     `json:"profile"`
	Release         ReleaseFacts     `json:"release"`
	Kernel          string           `json:"kernel"`
	Packages        []string         `json:"packages"`
	Programs        []Program        `json:"programs"`
	ContainerImages []ContainerFacts `json:"containerImages"`
	Addons          []string         `json:"addons"`
	Units           []Unit           `json:"units"`
	CommandLine     string           `json:"commandLine"`
	Modules         []string         `json:"modules"`
	Layout          Layout           `json:"layout"`
	Steps           []Step           `json:"steps"`
}

// Step is one step of a build.
type Step struct {
	Name string `json:"name"`
	Does string `json:"does"`
}

// ImageFacts is the part of an image that the rest of a description does not hold.
type ImageFacts struct {
	Name         string `json:"name"`
	Description  string `json:"description"`
	Architecture string `json:"architecture"`
	Platform     string `json:"platform"`
	Format       string `json:"format"`
	// Copies is never null.
	Copies []string `json:"copies"`
	// Firmware is what the image starts from.
	Firmware    []string `json:"firmware"`
	Compression int      `json:"compression"`
}

// ProfileFacts is what a profile gives to the node.
type ProfileFacts struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Role        string            `json:"role"`
	Files       []string          `json:"files"`
	Kubelet     map[string]any    `json:"kubelet"`
	Labels      map[string]string `json:"labels"`
	Taints      []profile.Taint   `json:"taints"`
	Patches     []string          `json:"patches"`
}

// ReleaseFacts is the part of a release that the rest of a description does not hold.
type ReleaseFacts struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Kubernetes  string    `json:"kubernetes"`
	Suite       string    `json:"suite"`
	Timestamp   time.Time `json:"timestamp"`
}

// Program is a binary in the node's root and the pinned module it is built from.
type Program struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Module  string `json:"module"`
	Version string `json:"version"`
}

// ContainerFacts is a container image and what it is made of.
type ContainerFacts struct {
	Name     string    `json:"name"`
	Programs []Program `json:"programs"`
	Packages []string  `json:"packages"`
}

// Describe gives the plan as a value for printing. Lists are never null in JSON.
func (p Plan) Describe() Description {
	d := Description{
		Image: imageFacts(p.Image),
		Profile: ProfileFacts{
			Name: p.Profile.Name, Description: p.Profile.Description, Role: p.Profile.Role,
			Files: keys(p.Profile.Files), Kubelet: orEmpty(p.Profile.Kubelet), Labels: orEmpty(p.Profile.Labels),
			Taints: list(p.Profile.Taints), Patches: keys(p.Profile.Patches),
		},
		Release:     releaseFacts(p.Release),
		Packages:    list(p.Packages),
		Addons:      list(p.Release.Addons),
		Units:       list(p.Units),
		CommandLine: p.CommandLine(RootHashUnknown),
		Modules:     list(p.Image.Modules),
		Layout:      p.Layout(),
		Kernel:      p.Image.Kernel,
		Steps:       []Step{},
		Programs:    []Program{},
	}
	for _, file := range p.Release.Node {
		d.Programs = append(d.Programs, p.program(file.Binary, file.Path))
	}
	d.ContainerImages = []ContainerFacts{}
	for _, image := range p.ContainerImages {
		facts := ContainerFacts{Name: image.Name, Programs: []Program{}, Packages: list(image.Packages)}
		for _, file := range image.Files {
			facts.Programs = append(facts.Programs, p.program(file.Binary, file.Path))
		}
		d.ContainerImages = append(d.ContainerImages, facts)
	}
	return d
}

func imageFacts(i Image) ImageFacts {
	return ImageFacts{
		Name: i.Name, Description: i.Description, Architecture: i.Architecture,
		Platform: i.Platform, Format: i.Format, Copies: list(i.Copies), Firmware: i.Starts(), Compression: i.Level(),
	}
}

func releaseFacts(r release.Release) ReleaseFacts {
	return ReleaseFacts{Name: r.Name, Description: r.Description, Kubernetes: r.Kubernetes, Suite: r.Suite, Timestamp: r.Timestamp}
}

func (p Plan) program(binary, path string) Program {
	source, _, _ := p.Release.Binary(binary)
	version := source.Version
	if source.Reports != "" {
		version = source.Reports
	}
	return Program{Name: binary, Path: path, Module: source.Module, Version: version}
}

func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func orEmpty[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

func keys(m map[string]string) []string { return list(slices.Sorted(maps.Keys(m))) }
