package plan

import (
	_ "embed"

	"github.com/kiln-os/kiln/internal/document"
)

// ImageKind is the document's kind.
const ImageKind = "Image"

// Image says where a node image boots: platform, format and sizes.
type Image struct {
	document.Header
	// Name is how a build names the image.
	Name string `json:"name"`
	// Description says in one sentence where the image boots.
	Description string `json:"description,omitempty"`
	// Architecture of the machines: amd64.
	Architecture string `json:"architecture"`
	// Platform tells firstboot where to look for the identity: qemu (fw_cfg, then a partition labelled KILN), metal (the
	// partition), or the metadata of a cloud: aws, azure, digitalocean, gcp, hetzner, openstack, vmware.
	Platform string `json:"platform"`
	// Format is the file that is made: disk (a raw GPT disk, disk.raw), qcow2 (disk.qcow2), vhd (a fixed one as Azure wants it,
	// disk.vhd), vmdk (streamOptimized, disk.vmdk, and disk.ova with a virtual machine around it) or gce (the archive that
	// Google Compute Engine imports, disk.tar.gz), pxe (a directory for an HTTP server, from which machines boot live or to
	// install) or iso (a hybrid ISO image for the same, kiln.iso).
	Format string `json:"format"`
	// Copies are made beside a raw disk: zstd (disk.raw.zst, which zstd -d makes sparse again).
	Copies []string `json:"copies,omitempty"`
	// Firmware is what the image starts from: uefi, which is also the default, and bios.
	Firmware []string `json:"firmware,omitempty"`
	// Kernel is the Debian package of the kernel, as in linux-image-cloud-amd64. It is unpacked, not installed: its
	// scripts would make an initramfs that nobody boots.
	Kernel string `json:"kernel"`
	// Packages are Debian packages added for the platform.
	Packages []string `json:"packages,omitempty"`
	// KernelArguments are added to the kernel command line; the last console= is where messages go.
	KernelArguments []string `json:"kernelArguments,omitempty"`
	// Modules are kernel modules in the initramfs, with all that they depend on; what the machine lacks stays unloaded.
	Modules []string `json:"modules"`
	// Disk gives the sizes of the partitions: of an image without a disk, those of the disk that an installation makes.
	Disk Disk `json:"disk"`
	// Compression is how the root is packed: zstd level 1 to 22, default 3.
	Compression int `json:"compression,omitempty"`
}

// Disk is the layout of a GPT disk. The state partition takes what is left, on first boot.
type Disk struct {
	// ESP is the EFI system partition: room for the boot loader and two unified kernel images.
	ESP document.Size `json:"esp"`
	// Root is the size of each of the two root partitions.
	Root document.Size `json:"root"`
	// Verity is the size of each root's hash tree; about 1/120 of the root.
	Verity document.Size `json:"verity"`
	// StateMinimum is the least room that a machine's disk must leave for the state partition.
	StateMinimum document.Size `json:"stateMinimum"`
}

// defaultLevel packs a root at 170 MB/s a core; higher levels cost a build more than they save a boot.
const defaultLevel = 3

// Level is the zstd level that the root is packed with.
func (i Image) Level() int {
	if i.Compression == 0 {
		return defaultLevel
	}
	return i.Compression
}

// ParseImage reads an Image document; file is the name for messages.
func ParseImage(file string, text []byte) (Image, error) {
	var image Image
	if err := document.Decode(file, text, ImageKind, &image); err != nil {
		return Image{}, err
	}
	problems := &document.Problems{File: file}
	checkImage(problems, image)
	return image, problems.Err()
}

// ImageText is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed image.go
var ImageText string
