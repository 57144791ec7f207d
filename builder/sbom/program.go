package sbom

import (
	"fmt"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// Program is a binary that does not come from Debian.
type Program struct {
	// Name tells it from all others.
	Name string
	// Version is what it reports of itself; empty is unknown.
	Version string
	// SHA256 is the digest of its bytes, in hex.
	SHA256 string
	// Paths are where it lies in the root: none when it is only in container images.
	Paths []string
	// Go is what the Go toolchain wrote into it; nil for a program in C, which Module, ModuleVersion and Package describe:
	// the Go module that its source lies in, and the file within.
	Go                             *debug.BuildInfo
	Module, ModuleVersion, Package string
}

func programRef(name string) string { return "program:" + name }

// addProgram adds a program and the modules that are linked into it.
func (d document) addProgram(p Program) (string, error) {
	ref := programRef(p.Name)
	if _, ok := d.components[ref]; ok {
		return "", fmt.Errorf("describing program %s: there are two of the name", p.Name)
	}
	component := cyclonedx.Component{
		BOMRef: ref, Type: cyclonedx.ComponentTypeApplication, Name: p.Name, Version: p.Version, PackageURL: p.purl(),
		Hashes: &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: p.SHA256}},
	}
	var occurrences []cyclonedx.EvidenceOccurrence
	for _, location := range slices.Sorted(slices.Values(p.Paths)) {
		occurrences = append(occurrences, cyclonedx.EvidenceOccurrence{Location: location})
	}
	if occurrences != nil {
		component.Evidence = &cyclonedx.Evidence{Occurrences: &occurrences}
	}
	d.add(component)
	if p.Go != nil {
		d.link(ref, d.addStandardLibrary(p.Go.GoVersion))
		for _, dependency := range p.Go.Deps {
			d.link(ref, d.addModule(dependency))
		}
	}
	return ref, nil
}

// purl names the module that the program is from, and where in it; empty when nobody knows.
func (p Program) purl() string {
	module, version, dir := p.Module, p.ModuleVersion, path.Dir(p.Package)
	if p.Go != nil {
		module, version = p.Go.Main.Path, known(p.Go.Main.Version)
		dir, _ = strings.CutPrefix(p.Go.Path, module)
	}
	if module == "" {
		return ""
	}
	return modulePurl(module, version, strings.Trim(dir, "./"))
}

// addModule adds the module that was compiled: the replacement, where there is one.
func (d document) addModule(m *debug.Module) string {
	if m.Replace != nil && m.Replace.Version != "" {
		m = m.Replace
	}
	purl := modulePurl(m.Path, known(m.Version), "")
	d.add(cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: known(m.Version), PackageURL: purl})
	return purl
}

// addStandardLibrary adds Go's own packages under the name by which the Go vulnerability database knows them.
func (d document) addStandardLibrary(goVersion string) string {
	// A toolchain with experiments says so behind a space.
	version, _, _ := strings.Cut(strings.TrimPrefix(goVersion, "go"), " ")
	purl := modulePurl("stdlib", version, "")
	d.add(cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: "stdlib", Version: version, PackageURL: purl})
	return purl
}

// known is a module's version, or empty where Go has only a word for not knowing it.
func known(version string) string {
	if version == "(devel)" {
		return ""
	}
	return version
}
