package ignition

import (
	"fmt"
	"path"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// check refuses, before anything is written, what this image cannot do. The config itself is valid: upstream's parser has
// said so. from begins messages.
func check(from string, c types.Config) error {
	p := &document.Problems{File: from}
	if len(c.KernelArguments.ShouldExist)+len(c.KernelArguments.ShouldNotExist) > 0 {
		p.Add("kernelArguments", "cannot be changed on a node, whose kernel command line is sealed in the image; set kernelArguments of the Image document and build again")
	}
	for i, luks := range c.Storage.Luks {
		at := fmt.Sprintf("storage.luks[%d]", i)
		if luks.Clevis.IsPresent() {
			p.Add(at+".clevis", "needs clevis, which the image does not have; give the volume a keyFile, or leave that out for a key that is kept on the node")
		}
		if luks.Cex.IsPresent() {
			p.Add(at+".cex", "needs a machine of IBM's; leave it out")
		}
	}
	var mounted []string
	for i, filesystem := range c.Storage.Filesystems {
		if filesystem.Path == nil || *filesystem.Path == "" {
			continue
		}
		mounted = append(mounted, *filesystem.Path)
		if !below(*filesystem.Path, "/var") || *filesystem.Path == "/var" || below(nodefs.KilnState, *filesystem.Path) || below(*filesystem.Path, nodefs.KilnState) {
			p.Add(fmt.Sprintf("storage.filesystems[%d].path", i), "is %s, and there are no mount points on the read-only root; want a directory below /var, but not kiln's own", *filesystem.Path)
		}
	}
	place := func(kind string, i int, name string) {
		if !writable(name, mounted) {
			p.Add(fmt.Sprintf("storage.%s[%d].path", kind, i), "is %s, on the read-only root; want a path below /etc, /var, /home or /root", name)
		}
	}
	for i, file := range c.Storage.Files {
		place("files", i, file.Path)
	}
	for i, directory := range c.Storage.Directories {
		place("directories", i, directory.Path)
	}
	for i, link := range c.Storage.Links {
		place("links", i, link.Path)
	}
	return p.Err()
}

func writable(name string, mounted []string) bool {
	for _, tree := range append([]string{"/etc", "/var", "/home", "/root", "/run"}, mounted...) {
		if below(name, tree) {
			return true
		}
	}
	return false
}

// below tells whether name is tree or lies in it.
func below(name, tree string) bool {
	name = path.Clean(name)
	return name == tree || strings.HasPrefix(name, strings.TrimSuffix(tree, "/")+"/")
}
