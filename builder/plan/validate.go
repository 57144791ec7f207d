// Package plan turns three names into one checked value, or every reason why not.
//
// Reading (names to bytes) is apart from resolving (bytes to value): a Plan is complete before anything is built, and
// `kiln show` prints it. Nothing here touches the host except through the filesystems that a caller gives.
package plan

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Architectures lists the machines that an image can be for.
func Architectures() []string { return []string{"amd64"} }

// Platforms lists where an image can boot; each stands for the sources in which firstboot looks for the identity.
func Platforms() []string { return slices.Sorted(maps.Keys(formats())) }

// Formats of images.
const (
	FormatDisk  = "disk"
	FormatQCOW2 = "qcow2"
	FormatVHD   = "vhd"
	FormatVMDK  = "vmdk"
	FormatGCE   = "gce"
	FormatPXE   = "pxe"
	FormatISO   = "iso"
)

// Formats lists the files that can be made.
func Formats() []string {
	return []string{FormatDisk, FormatQCOW2, FormatVHD, FormatVMDK, FormatGCE, FormatPXE, FormatISO}
}

// CopyZstd is a raw disk compressed with zstd.
const CopyZstd = "zstd"

// Copies lists what can be made beside a raw disk.
func Copies() []string { return []string{CopyZstd} }

// formats says which formats a platform takes, the usual one first.
func formats() map[string][]string {
	return map[string][]string{
		"aws":          {FormatDisk}, // imported as a snapshot
		"azure":        {FormatVHD},
		"digitalocean": {FormatQCOW2, FormatDisk, FormatVHD, FormatVMDK},
		"gcp":          {FormatGCE},
		"hetzner":      {FormatDisk, FormatQCOW2}, // written by the rescue system
		"metal":        {FormatDisk, FormatPXE, FormatISO},
		"openstack":    {FormatQCOW2, FormatDisk, FormatVHD, FormatVMDK},
		"qemu":         {FormatDisk, FormatQCOW2},
		"vmware":       {FormatVMDK},
	}
}

var (
	// namePattern keeps names usable as a file's name, a build's argument and a label's value.
	namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	// packagePattern is a package's name (Debian Policy, section 5.6.1).
	packagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	modulePattern  = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

func checkImage(p *document.Problems, image Image) {
	if !namePattern.MatchString(image.Name) {
		p.Add("name", "%s; want at most 63 of a-z, 0-9, - and ., as in vm-disk", missingOr(image.Name))
	}
	checkChoice(p, "architecture", image.Architecture, Architectures())
	checkChoice(p, "platform", image.Platform, Platforms())
	checkChoice(p, "format", image.Format, Formats())
	if allowed, known := formats()[image.Platform]; known && slices.Contains(Formats(), image.Format) && !slices.Contains(allowed, image.Format) {
		p.Add("format", "%s cannot boot on platform %s; want %s", image.Format, image.Platform, oneOf(allowed))
	}
	checkCopies(p, image)
	checkFirmware(p, image)
	checkPackages(p, "packages", image.Packages)
	if !packagePattern.MatchString(image.Kernel) || !strings.HasPrefix(image.Kernel, "linux-image-") {
		p.Add("kernel", "%s; want one of Debian's linux-image- packages, as in linux-image-amd64", missingOr(image.Kernel))
	}
	for i, name := range image.Packages {
		if strings.HasPrefix(name, "linux-image-") {
			p.Add(fmt.Sprintf("packages[%d]", i), "%s is a kernel, which is not installed like a package; name it in kernel", name)
		}
	}
	checkArguments(p, image.KernelArguments)
	checkModules(p, image.Modules)
	checkDisk(p, image.Disk)
	if image.Compression < 0 || image.Compression > 22 {
		p.Add("compression", "is %d; want a zstd level from 1 to 22", image.Compression)
	}
}

func checkCopies(p *document.Problems, image Image) {
	if len(image.Copies) > 0 && image.Format != FormatDisk && slices.Contains(Formats(), image.Format) {
		p.Add("copies", "are made of a raw disk only, and the format is %s; leave copies out, or set format to %s", image.Format, FormatDisk)
	}
	for i, name := range image.Copies {
		field := fmt.Sprintf("copies[%d]", i)
		checkChoice(p, field, name, Copies())
		if slices.Contains(image.Copies[:i], name) {
			p.Add(field, "%s is there already; leave it out", name)
		}
	}
}

func checkChoice(p *document.Problems, field, value string, allowed []string) {
	if !slices.Contains(allowed, value) {
		p.Add(field, "%s; want %s", missingOr(value), oneOf(allowed))
	}
}

// oneOf lists what is allowed, as in "a, b or c".
func oneOf(allowed []string) string {
	last := len(allowed) - 1
	if last < 1 {
		return strings.Join(allowed, "")
	}
	return strings.Join(allowed[:last], ", ") + " or " + allowed[last]
}

func missingOr(value string) string {
	if value == "" {
		return "missing"
	}
	return fmt.Sprintf("unknown %q", value)
}

// checkPackages lets a package be named twice: two documents often need the same one.
func checkPackages(p *document.Problems, field string, packages []string) {
	for i, name := range packages {
		if !packagePattern.MatchString(name) {
			p.Add(fmt.Sprintf("%s[%d]", field, i), "%q is not the name of a Debian package; want one without a version, as in ethtool", name)
		}
	}
}

// ours are the kernel arguments that the build sets, with what sets them.
var ours = map[string]string{
	nodefs.ParamRootHash:      "it is the digest of the root that the build makes",
	nodefs.ParamPlatform:      "it is the field platform",
	nodefs.ParamRoot:          "it is the field format",
	"root":                    "the root is found by " + nodefs.ParamRootHash,
	"init":                    "the initramfs and systemd are part of what is sealed",
	"rdinit":                  "the initramfs and systemd are part of what is sealed",
	nodefs.ParamInstallSHA256: "it is the digest of the install.json that the build makes",
	"panic":                   "the build sets it to 60 s",
}

func checkArguments(p *document.Problems, arguments []string) {
	for i, argument := range arguments {
		field := fmt.Sprintf("kernelArguments[%d]", i)
		name, _, _ := strings.Cut(argument, "=")
		why, bad := ours[name]
		switch {
		case argument == "" || strings.ContainsAny(argument, " \t\r\n\"'"):
			p.Add(field, "%q is not one argument; want it without white space and quotes, one list item for each", argument)
		case bad:
			p.Add(field, "%s is not an image's to set: %s; leave it out", name, why)
		}
	}
}

func checkModules(p *document.Problems, modules []string) {
	if len(modules) == 0 {
		p.Add("modules", "missing; want the modules that reach the disk and read the root, as in virtio_blk, dm-verity, squashfs and overlay")
	}
	for i, name := range modules {
		if !modulePattern.MatchString(name) {
			p.Add(fmt.Sprintf("modules[%d]", i), "%q is not a module's name; want it without path and .ko, as in virtio_blk", name)
		}
	}
}

// minimumESP is what firmware reads without trouble and what two unified kernel images of this size need.
const minimumESP = 64 * document.MiB

func checkDisk(p *document.Problems, disk Disk) {
	sizes := []struct {
		field string
		size  document.Size
	}{{"esp", disk.ESP}, {"root", disk.Root}, {"verity", disk.Verity}, {"stateMinimum", disk.StateMinimum}}
	for _, s := range sizes {
		switch {
		case s.size == 0:
			p.Add("disk."+s.field, "missing; want a size, as in 256MiB")
		case s.size%alignment != 0:
			p.Add("disk."+s.field, "%s is not a whole number of MiB, to which partitions are aligned", s.size)
		}
	}
	if disk.ESP > 0 && disk.ESP < minimumESP {
		p.Add("disk.esp", "%s is too small for two unified kernel images; want at least %s", disk.ESP, minimumESP)
	}
	if want := verityFor(disk.Root); disk.Verity > 0 && disk.Root%alignment == 0 && disk.Verity < want {
		p.Add("disk.verity", "%s is too small for the hash tree of %s of root; want at least %s", disk.Verity, disk.Root, want)
	}
}
