package payload

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/release"
)

// layerRecipe is part of a package layer's key and of Payload.Recipe: raise it when the code in this file, layer.go or
// image.go begins to make other bytes of the same input.
const layerRecipe = 2

const (
	layerFile  = "layer.tar"
	digestFile = "layer.sha256"
	// statusFile is the dpkg database of what is in the layer, which itself has none.
	statusFile = "dpkg-status"
)

// packagePart is the part with the layer of packages and of all that they depend on. Images that name the same packages
// share it.
func (s Source) packagePart(ctx context.Context, packages []string, at time.Time) (parts.Part, error) {
	extracted, err := s.PackageTar(ctx, packages)
	if err != nil {
		return parts.Part{}, fmt.Errorf("extracting %s: %w", strings.Join(packages, ", "), err)
	}
	input, err := parts.SHA256File(extracted)
	if err != nil {
		return parts.Part{}, err
	}
	return s.Store.Make(ctx, parts.Key("layer-packages", layerRecipe, input, at), func(_ context.Context, dir string) error {
		return writePackageLayer(extracted, parts.Part{Dir: dir}, at)
	})
}

// packageLayer is the layer of packages.
func (s Source) packageLayer(ctx context.Context, packages []string, at time.Time) (*tarLayer, error) {
	part, err := s.packagePart(ctx, packages, at)
	if err != nil {
		return nil, err
	}
	want, err := os.ReadFile(part.Path(digestFile))
	if err != nil {
		return nil, damaged(part, digestFile, err.Error())
	}
	return &tarLayer{
		open: func() (io.ReadCloser, error) { return os.Open(part.Path(layerFile)) },
		check: func(got string) error {
			if got != strings.TrimSpace(string(want)) {
				return damaged(part, layerFile, fmt.Sprintf("SHA-256 is %s, and %s was built", got, strings.TrimSpace(string(want))))
			}
			return nil
		},
	}, nil
}

// packageStatus is the dpkg database of an image's package layer; nil when it has none.
func (s Source) packageStatus(ctx context.Context, image release.ContainerImage, at time.Time) ([]byte, error) {
	if len(image.Packages) == 0 {
		return nil, nil
	}
	part, err := s.packagePart(ctx, image.Packages, at)
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile(part.Path(statusFile))
	if err != nil {
		return nil, damaged(part, statusFile, err.Error())
	}
	return status, nil
}

func writePackageLayer(extracted string, part parts.Part, at time.Time) error {
	input, err := os.Open(extracted)
	if err != nil {
		return err
	}
	defer input.Close()
	entries, status, err := normalise(input, at)
	if err != nil {
		return fmt.Errorf("reading %s: %w", extracted, err)
	}
	if err := os.WriteFile(part.Path(statusFile), status, 0o644); err != nil {
		return err
	}
	output, err := os.Create(part.Path(layerFile))
	if err != nil {
		return err
	}
	if err := errors.Join(writeEntries(output, entries), output.Close()); err != nil {
		return err
	}
	sum, err := parts.SHA256File(part.Path(layerFile))
	if err != nil {
		return err
	}
	return os.WriteFile(part.Path(digestFile), []byte(sum+"\n"), 0o644)
}

// normalise reads the tar of an extracted Debian tree and gives the entries of a layer: without what no program reads
// and what differs from one extraction to the next, sorted, hard links after the files they name. The tree's dpkg
// database comes beside them.
func normalise(r io.Reader, at time.Time) (entries []entry, status []byte, err error) {
	members := map[string]entry{}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if path.Clean(header.Name) == "var/lib/dpkg/status" {
			if status, err = io.ReadAll(archive); err != nil {
				return nil, nil, fmt.Errorf("reading %s: %w", header.Name, err)
			}
			continue
		}
		member, ok, err := normaliseEntry(archive, header, at)
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", header.Name, err)
		}
		if ok {
			members[member.header.Name] = member
		}
	}
	addLinks(members, at)
	for _, member := range members {
		entries = append(entries, member)
	}
	sort.Slice(entries, func(i, j int) bool {
		a, b := entries[i].header, entries[j].header
		if (a.Typeflag == tar.TypeLink) != (b.Typeflag == tar.TypeLink) {
			return b.Typeflag == tar.TypeLink
		}
		return a.Name < b.Name
	})
	return entries, status, nil
}

// capability is the one extended attribute that is kept: what a program may do without being root.
const capability = "SCHILY.xattr.security.capability"

// normaliseEntry gives the layer's entry for a member of the extracted tree; ok is false when it is left out.
func normaliseEntry(r io.Reader, header *tar.Header, at time.Time) (member entry, ok bool, err error) {
	name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
	if name == "" || dropped(name) {
		return entry{}, false, nil
	}
	kept := tar.Header{Typeflag: header.Typeflag, Name: name, Mode: header.Mode & 0o7777, Uid: header.Uid, Gid: header.Gid, ModTime: at}
	if value, found := header.PAXRecords[capability]; found {
		kept.PAXRecords = map[string]string{capability: value}
	}
	var data []byte
	switch header.Typeflag {
	case tar.TypeDir:
		kept.Name += "/"
	case tar.TypeReg:
		kept.Size = header.Size
		data, err = io.ReadAll(r)
	case tar.TypeSymlink:
		kept.Linkname = header.Linkname
	case tar.TypeLink:
		kept.Linkname = strings.TrimPrefix(path.Clean("/"+header.Linkname), "/")
	default:
		// Device nodes and pipes: a container gets its own /dev.
		return entry{}, false, nil
	}
	return entry{header: kept, data: data}, true, err
}

// dropped tells what of an extracted tree has no place in a container image: what no program reads, what a container
// gets from elsewhere, and what mmdebstrap copied from the machine that it ran on.
func dropped(name string) bool {
	for _, tree := range []string{
		"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug", "usr/lib/x86_64-linux-gnu/gconv",
		"var/cache", "var/log", "var/lib/apt", "var/lib/dpkg", "etc/apt", "etc/dpkg", "etc/fstab", "etc/hostname", "etc/resolv.conf",
	} {
		if name == tree || strings.HasPrefix(name, tree+"/") {
			return true
		}
	}
	// The directory stays: runc mounts over it.
	return strings.HasPrefix(name, "dev/")
}

// addLinks makes the links that are made when packages are installed: an extracted one has none. The loader of every
// dynamic program is reached through /lib64, which is base-files', a package that nothing depends on.
func addLinks(members map[string]entry, at time.Time) {
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		addLink(members, dir, "usr/"+dir, "usr/"+dir+"/", at)
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			target := program + "-nft" + suffix
			addLink(members, "usr/sbin/"+program+suffix, target, "usr/sbin/"+target, at)
		}
	}
}

// addLink adds a symbolic link if the tree has the member that it is for, and nothing in the link's place.
func addLink(members map[string]entry, name, target, member string, at time.Time) {
	if _, found := members[member]; !found {
		return
	}
	for _, taken := range []string{name, name + "/"} {
		if _, found := members[taken]; found {
			return
		}
	}
	members[name] = entry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: at}}
}
