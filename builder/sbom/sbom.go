// Package sbom renders the software bill of materials of a node image as CycloneDX 1.6 JSON: the operating system's
// packages and the Kubernetes payload in one document. It is pure: values in, bytes out, and the same values always give
// the same bytes.
package sbom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// imageRef is the reference of the image itself within the document.
const imageRef = "image"

// Image is what an image holds.
type Image struct {
	// Image, Profile and Release are the names of the documents that it was built from.
	Image, Profile, Release string
	// Version identifies the image's content.
	Version string
	// RootHash is the dm-verity root hash in hex; the document's serial number follows from it.
	RootHash string
	// Timestamp is the document's time: the release's, for the same image has the same document whenever it is built.
	Timestamp time.Time
	// OS is the text of os-release.
	OS string
	// Suite is the Debian suite of all packages, as in trixie.
	Suite string
	// Packages are the Debian packages that the machine itself runs, the kernel among them.
	Packages []Package
	// Programs are the binaries that do not come from Debian, wherever in the image they lie.
	Programs []Program
	// Containers are the container images.
	Containers []Container
}

// Container is a container image.
type Container struct {
	// Name is the full reference with a tag, as in registry.k8s.io/pause:3.10.2.
	Name string
	// Digest is that of its manifest, as in sha256:24fe...
	Digest string
	// Packages are the Debian packages in it.
	Packages []Package
	// Programs are the names of those of Image.Programs that are in it.
	Programs []string
}

// document collects components, each once, and what depends on what.
type document struct {
	suite      string
	components map[string]cyclonedx.Component
	edges      map[string]map[string]bool
}

// Render makes the document. An error names a value that contradicts the others.
func Render(i Image) ([]byte, error) {
	d := document{suite: i.Suite, components: map[string]cyclonedx.Component{}, edges: map[string]map[string]bool{imageRef: {}}}
	d.link(imageRef, d.addOS(i.OS))
	for _, p := range i.Packages {
		d.link(imageRef, d.addPackage(p))
	}
	programs := map[string]string{}
	for _, p := range i.Programs {
		ref, err := d.addProgram(p)
		if err != nil {
			return nil, err
		}
		programs[p.Name] = ref
		if len(p.Paths) > 0 {
			d.link(imageRef, ref)
		}
	}
	for _, c := range i.Containers {
		ref, err := d.addContainer(c, programs)
		if err != nil {
			return nil, err
		}
		d.link(imageRef, ref)
	}
	if err := d.checkHeld(i.Programs); err != nil {
		return nil, err
	}
	return d.encode(i)
}

// checkHeld refuses a program that is neither in the root nor in a container image: it would be listed and not be there.
func (d document) checkHeld(programs []Program) error {
	held := map[string]bool{}
	for _, to := range d.edges {
		maps.Copy(held, to)
	}
	for _, p := range programs {
		if !held[programRef(p.Name)] {
			return fmt.Errorf("describing program %s: it has no place in the image", p.Name)
		}
	}
	return nil
}

// addContainer adds a container image; programs maps names to references.
func (d document) addContainer(c Container, programs map[string]string) (string, error) {
	repository, tag, ok := cutTag(c.Name)
	_, sum, hashed := strings.Cut(c.Digest, "sha256:")
	if !ok || !hashed {
		return "", fmt.Errorf("describing container image %s: want a name with a tag and a digest of SHA-256, not %q", c.Name, c.Digest)
	}
	purl := ociPurl(repository, tag, c.Digest)
	d.add(cyclonedx.Component{
		BOMRef: purl, Type: cyclonedx.ComponentTypeContainer, Name: repository, Version: tag, PackageURL: purl,
		Hashes: &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: sum}},
	})
	for _, p := range c.Packages {
		d.link(purl, d.addPackage(p))
	}
	for _, name := range c.Programs {
		ref, ok := programs[name]
		if !ok {
			return "", fmt.Errorf("describing container image %s: its program %s is not among those of the image", c.Name, name)
		}
		d.link(purl, ref)
	}
	return purl, nil
}

// cutTag takes a reference apart. A colon before the last slash belongs to a registry's port.
func cutTag(name string) (repository, tag string, ok bool) {
	at := strings.LastIndexByte(name, ':')
	if at <= strings.LastIndexByte(name, '/') {
		return name, "", false
	}
	return name[:at], name[at+1:], true
}

// addOS adds the distribution: scanners choose by it what they compare the packages with.
func (d document) addOS(osRelease string) string {
	facts := map[string]string{}
	for line := range strings.Lines(osRelease) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			facts[key] = strings.Trim(value, `"'`)
		}
	}
	ref := "os:" + facts["ID"] + "-" + facts["VERSION_ID"]
	d.add(cyclonedx.Component{
		BOMRef: ref, Type: cyclonedx.ComponentTypeOS, Name: facts["ID"], Version: facts["VERSION_ID"], Description: facts["PRETTY_NAME"],
	})
	return ref
}

// add keeps the first component of a reference.
func (d document) add(c cyclonedx.Component) {
	if _, ok := d.components[c.BOMRef]; !ok {
		d.components[c.BOMRef] = c
	}
}

// link says that the image, a container image or a program holds what to names. What a component holds that has no
// links of its own, the packages and modules, is not said: CycloneDX takes a missing entry for unknown.
func (d document) link(from, to string) {
	if d.edges[from] == nil {
		d.edges[from] = map[string]bool{}
	}
	d.edges[from][to] = true
}

func (d document) encode(i Image) ([]byte, error) {
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = serialNumber(i.RootHash)
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: i.Timestamp.UTC().Format(time.RFC3339),
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "kiln"}}},
		Component: &cyclonedx.Component{
			BOMRef: imageRef, Type: cyclonedx.ComponentTypeOS, Name: "kiln image " + i.Image + " " + i.Profile, Version: i.Version,
			Properties: properties("kiln:image", i.Image, "kiln:profile", i.Profile, "kiln:release", i.Release, "kiln:rootHash", i.RootHash),
		},
	}
	components := slices.SortedFunc(maps.Values(d.components), func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	var dependencies []cyclonedx.Dependency
	for _, ref := range slices.Sorted(maps.Keys(d.edges)) {
		to := slices.Sorted(maps.Keys(d.edges[ref]))
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: ref, Dependencies: &to})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	var text bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("writing CycloneDX: %w", err)
	}
	return text.Bytes(), nil
}

// properties makes the list of alternating names and values, without those that have no value.
func properties(pairs ...string) *[]cyclonedx.Property {
	var list []cyclonedx.Property
	for n := 0; n+1 < len(pairs); n += 2 {
		if pairs[n+1] != "" {
			list = append(list, cyclonedx.Property{Name: pairs[n], Value: pairs[n+1]})
		}
	}
	if list == nil {
		return nil
	}
	return &list
}

// serialNumber is a UUID of version 8 (RFC 9562, section 5.8) from a digest of the root hash.
func serialNumber(rootHash string) string {
	id := sha256.Sum256([]byte("kiln sbom " + rootHash))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
