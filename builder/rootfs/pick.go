package rootfs

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
)

// Pick is single files of a Debian package that is not installed.
type Pick struct {
	// Package is its name.
	Package string
	// Tar is the tree that the package and all it needs were extracted into: see Extracted. It is where this build has it, and
	// stands in no part's key.
	Tar string `json:"-"`
	// Part is the name of the part that Tar lies in.
	Part string
	// Files are absolute paths within it.
	Files []string
}

// status is where dpkg lists its packages.
const status = "var/lib/dpkg/status"

// pick adds the files, and the package to the list of those that are there, for scanners that read the image.
func (t *Tree) pick(p Pick) error {
	other := NewTree(t.epoch)
	if err := other.AddTar(p.Tar, func(name string) bool { return name == status || slices.Contains(p.Files, "/"+name) }); err != nil {
		return err
	}
	for _, file := range p.Files {
		e, ok := other.entries[clean(file)]
		if !ok || e.header.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s is no file of the package", file)
		}
		header := *e.header
		t.add(file, &header, e.open)
	}
	theirs, err := other.Read(status)
	if err != nil {
		return err
	}
	ours, err := t.Read(status)
	if err != nil {
		return err
	}
	for stanza := range strings.SplitSeq(string(theirs), "\n\n") {
		if strings.Contains("\n"+stanza+"\n", "\nPackage: "+p.Package+"\n") {
			t.replaceContent(status, []byte(strings.TrimRight(string(ours), "\n")+"\n\n"+strings.TrimSpace(stanza)+"\n"))
			return nil
		}
	}
	return fmt.Errorf("the package is not in the list of what was extracted")
}
