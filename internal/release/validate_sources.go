package release

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// checkSources returns the names of all binaries, those of wrong sources too: each problem is reported once.
func checkSources(p *document.Problems, r Release) map[string]bool {
	binaries, sources := map[string]bool{}, map[string]bool{}
	if len(r.Sources) == 0 {
		p.Add("sources", "missing; want the modules that the binaries are built from")
	}
	for i, source := range r.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		switch {
		case !namePattern.MatchString(source.Name):
			p.Add(at+".name", "%q is no name; want small letters, digits, dots and hyphens", source.Name)
		case sources[source.Name]:
			p.Add(at+".name", "%s is the name of an earlier source; want another", source.Name)
		}
		sources[source.Name] = true
		checkSource(p, at, source, r.Kubernetes)
		checkBinaries(p, at, source, binaries)
	}
	return binaries
}

func checkSource(p *document.Problems, at string, source Source, kubernetes string) {
	if source.Module == "" || strings.ContainsAny(source.Module, " \t@") {
		p.Add(at+".module", "%q is no path of a Go module", source.Module)
	}
	switch {
	case !versionPattern.MatchString(source.Version):
		p.Add(at+".version", "%q is no version of a Go module; want one as in v1.2.3", source.Version)
	case source.Module == kubernetesModule && source.Version != kubernetes:
		p.Add(at+".version", "is %s, and kubernetes is %s; make them the same", source.Version, kubernetes)
	}
	for i, tag := range source.Tags {
		if !tagPattern.MatchString(tag) {
			p.Add(fmt.Sprintf("%s.tags[%d]", at, i), "%q is no build tag; want one tag an item", tag)
		}
	}
	checkPackages(p, at+".libraries", source.Libraries)
	if len(source.Libraries) > 0 && !source.Cgo {
		p.Add(at+".libraries", "without cgo nothing links them; set cgo: true or leave them out")
	}
	for name, value := range source.Stamp {
		if !stampPattern.MatchString(name) || !stampPattern.MatchString(value) {
			p.Add(at+".stamp."+name, "%q cannot be passed to the linker; want text without spaces, quotes and backslashes", value)
		}
	}
}

// checkBinaries adds the names of the source's binaries to binaries.
func checkBinaries(p *document.Problems, at string, source Source, binaries map[string]bool) {
	if len(source.Binaries) == 0 {
		p.Add(at+".binaries", "missing; want at least one")
	}
	for i, binary := range source.Binaries {
		at := fmt.Sprintf("%s.binaries[%d]", at, i)
		switch {
		case !namePattern.MatchString(binary.Name):
			p.Add(at+".name", "%q is no name of a program; want small letters, digits, dots and hyphens", binary.Name)
		case binaries[binary.Name]:
			p.Add(at+".name", "%s is the name of an earlier binary; want another, the path in an image may stay", binary.Name)
		}
		binaries[binary.Name] = true
		if !slices.Contains([]string{"", "go", "c"}, binary.Language) {
			p.Add(at+".language", "unknown %q; want go or c", binary.Language)
		}
		// Both kinds are passed to a compiler, which must not take them for an option or leave the module.
		if binary.Package == "" || path.Clean(binary.Package) != binary.Package || strings.HasPrefix(binary.Package, "-") ||
			strings.HasPrefix(binary.Package, "..") || path.IsAbs(binary.Package) {
			p.Add(at+".package", "%q is neither a Go package nor a file within the module", binary.Package)
		}
	}
}
