package release

import (
	"fmt"
	"path"
	"regexp"
	"slices"

	"github.com/kiln-os/kiln/internal/document"
)

var (
	namePattern       = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	kubernetesPattern = regexp.MustCompile(`^v1\.[0-9]+\.[0-9]+(-(alpha|beta|rc)\.[0-9]+)?$`)
	versionPattern    = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+`)
	packagePattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	tagPattern        = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
	stampPattern      = regexp.MustCompile(`^[^\s'"\\]+$`)
	// A full reference: the registry has a dot or a port, the repository may be nested, and a tag ends it.
	imagePattern = regexp.MustCompile(`^([a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?|[a-z0-9-]+:[0-9]+)(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	userPattern  = regexp.MustCompile(`^[0-9]+(:[0-9]+)?$`)
)

// kubernetesModule is the module whose version is the cluster's.
const kubernetesModule = "k8s.io/kubernetes"

// roles are those that profile documents may name.
func roles() []string { return []string{"control-plane", "worker"} }

func checkRelease(p *document.Problems, r Release) {
	if !namePattern.MatchString(r.Name) {
		p.Add("name", "%q is no name; want small letters, digits, dots and hyphens, as in v1.36", r.Name)
	}
	if !kubernetesPattern.MatchString(r.Kubernetes) {
		p.Add("kubernetes", "%q is no version of Kubernetes; want one as in v1.36.3", r.Kubernetes)
	}
	switch {
	case r.Timestamp.IsZero():
		p.Add("timestamp", "missing; want the time of every file in the image, as in 2026-09-15T00:00:00Z")
	case r.Timestamp.Nanosecond() != 0:
		p.Add("timestamp", "has a fraction of a second, which filesystems and archives do not keep; want whole seconds")
	}
	if !namePattern.MatchString(r.Suite) {
		p.Add("suite", "%q is no Debian suite; want one as in trixie", r.Suite)
	}
	checkPackages(p, "packages", r.Packages)
	checkPrograms(p, r)
	binaries := checkSources(p, r)
	checkNode(p, r, binaries)
	checkImages(p, r, binaries)
	checkAddons(p, r.Addons)
}

func checkPackages(p *document.Problems, field string, packages []string) {
	for i, name := range packages {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case !packagePattern.MatchString(name):
			p.Add(at, "%q is no name of a Debian package", name)
		case slices.Contains(packages[:i], name):
			p.Add(at, "%s is listed twice; remove one", name)
		}
	}
}

// checkPrograms checks what is taken out of packages that are not installed.
func checkPrograms(p *document.Problems, r Release) {
	for i, programs := range r.Programs {
		at := fmt.Sprintf("programs[%d]", i)
		switch {
		case !packagePattern.MatchString(programs.Package):
			p.Add(at+".package", "%q is no name of a Debian package", programs.Package)
		case slices.Contains(r.Packages, programs.Package):
			p.Add(at+".package", "%s is installed whole by packages; remove one", programs.Package)
		}
		if len(programs.Files) == 0 {
			p.Add(at+".files", "missing; want the files that are taken out of %s", programs.Package)
		}
		for j, file := range programs.Files {
			if !path.IsAbs(file) || path.Clean(file) != file || file == "/" {
				p.Add(fmt.Sprintf("%s.files[%d]", at, j), "%q is no absolute path of a file", file)
			}
		}
	}
}

// checkAddons wants files of the release's own directory, so that a release can be copied as one.
func checkAddons(p *document.Problems, addons []string) {
	for i, name := range addons {
		at := fmt.Sprintf("addons[%d]", i)
		switch {
		case path.Base(name) != name || path.Ext(name) != ".yaml" || name == FileName:
			p.Add(at, "%q is no manifest beside the release; want a file name that ends in .yaml", name)
		case slices.Contains(addons[:i], name):
			p.Add(at, "%s is listed twice; remove one", name)
		}
	}
}

// checkNode checks where the node's own binaries lie.
func checkNode(p *document.Problems, r Release, binaries map[string]bool) {
	if len(r.Node) == 0 {
		p.Add("node", "missing; want the binaries of the node's root, kubelet and containerd among them")
	}
	checkFiles(p, "node", r.Node, binaries)
}

// checkFiles checks a list of binaries and their paths in one root.
func checkFiles(p *document.Problems, field string, files []NodeBinary, binaries map[string]bool) {
	seen := map[string]bool{}
	for i, file := range files {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !binaries[file.Binary] {
			p.Add(at+".binary", "%q is built by no source; want a name of sources[].binaries", file.Binary)
		}
		switch {
		case !cleanAbsolute(file.Path):
			p.Add(at+".path", "%q is no path of a file; want an absolute one without . and .., as in /usr/bin/kubelet", file.Path)
		case seen[file.Path]:
			p.Add(at+".path", "%s is taken by an earlier binary; want another path", file.Path)
		}
		seen[file.Path] = true
	}
}

func cleanAbsolute(file string) bool {
	return path.IsAbs(file) && path.Clean(file) == file && file != "/"
}
