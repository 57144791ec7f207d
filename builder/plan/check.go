package plan

import (
	"errors"
	"io/fs"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// needed are the container images by base name that a role's node cannot do without (kubeadm 1.36,
// cmd/kubeadm/app/images). CoreDNS may be scheduled on any node.
var needed = map[string][]string{
	profile.ControlPlane: {"coredns", "etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "pause"},
	profile.Worker:       {"coredns", "kube-proxy", "pause"},
}

// checkTogether finds what is wrong with three documents that are each right: every contradiction at once, in the
// document that has to change.
func checkTogether(d Documents, p Plan) error {
	role := &document.Problems{File: d.Profile.File}
	pinned := &document.Problems{File: d.Release.File}
	checkContainerImages(pinned, p)
	checkUnits(role, p)
	checkFiles(role, p)
	checkReleaseFiles(pinned, p)
	if len(p.Release.Packages) == 0 {
		pinned.Add("packages", "missing; want the Debian packages of every node, systemd-sysv and runc among them")
	}
	checkPackages(pinned, "packages", p.Release.Packages)
	overlayErr := checkSecrets(role, pinned, d, p)
	return errors.Join(role.Err(), pinned.Err(), overlayErr)
}

// checkContainerImages finds roles that the release was not made for. That there is a sandbox image for each role is the
// release's own concern.
func checkContainerImages(pinned *document.Problems, p Plan) {
	have := map[string]bool{}
	for _, image := range p.ContainerImages {
		have[image.Base()] = true
	}
	for _, base := range needed[p.Profile.Role] {
		if !have[base] {
			pinned.Add("containerImages", "there is no %s for role %s, which cannot run without it; add one, or add the role to its roles", base, p.Profile.Role)
		}
	}
}

func checkUnits(role *document.Problems, p Plan) {
	for _, unit := range essential {
		if enabled, set := p.Profile.Units[unit]; set && !enabled {
			role.Add("units."+unit, "is disabled here, but every node needs it; leave it out")
		}
	}
}

func checkFiles(role *document.Problems, p Plan) {
	for _, binary := range p.Release.Node {
		if _, both := p.Profile.Files[binary.Path]; both {
			role.Add("files."+binary.Path, "is where release %s puts %s; rename the file", p.Release.Name, binary.Binary)
		}
	}
}

// checkReleaseFiles looks for what the release document says lies beside it.
func checkReleaseFiles(pinned *document.Problems, p Plan) {
	if p.ReleaseFiles == nil {
		return
	}
	want := func(field, name string) {
		if !fs.ValidPath(name) {
			pinned.Add(field, "%q is not a path below the release's directory", name)
			return
		}
		if _, err := fs.Stat(p.ReleaseFiles, name); err != nil {
			pinned.Add(field, "there is no %s beside the document; add the file or remove the entry", name)
		}
	}
	for _, source := range p.Release.Sources {
		want("sources."+source.Name, source.Name+".mod")
		want("sources."+source.Name, source.Name+".sum")
	}
	for _, addon := range p.Release.Addons {
		want("addons", addon)
	}
}
