package plan

import (
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Partition types of the Discoverable Partitions Specification (UAPI group, specification 2, "Defined Partition Type
// UUIDs"), x86-64 where the type depends on the architecture.
const (
	TypeESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	// TypeBIOS is the BIOS boot partition, which GRUB's core image lies in; the specification leaves it to GRUB's manual.
	TypeBIOS       = "21686148-6449-6e6f-744e-656564454649"
	TypeRoot       = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	TypeRootVerity = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"
	// TypeState is the type of /var. The specification wants such a partition's UUID to follow from the machine's ID, so
	// that others do not mount it by mistake; a node finds its state by label, before it has an ID. It is not "generic Linux
	// data", which partitioning tools give to every partition that nobody gave a type.
	TypeState = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
)

// alignment of partitions, in bytes. The partition tables at both ends of the disk get as much.
const alignment = document.MiB

// Content is what the build puts into a partition.
type Content string

// Contents of partitions. An empty partition is the other half of an A/B pair, filled by the first update.
const (
	ContentESP    Content = "esp"
	ContentRoot   Content = "root"
	ContentVerity Content = "verity"
	ContentBIOS   Content = "bios"
	ContentEmpty  Content = "empty"
)

// Layout is the partition table of the disk image.
type Layout struct {
	// Size of the image file: the partitions and the tables. A node's disk has to be larger by StateMinimum.
	Size document.Size `json:"size"`
	// Partitions in the order of the disk. The node adds the state partition behind the last, on its first boot.
	Partitions []Partition `json:"partitions"`
	// StateLabel and StateMinimum describe that partition.
	StateLabel   string        `json:"stateLabel"`
	StateMinimum document.Size `json:"stateMinimum"`
}

// Partition is one entry of the partition table.
type Partition struct {
	// Label is the partition's name.
	Label string `json:"label"`
	// TypeGUID is the partition's type, a GUID in lower case.
	TypeGUID string `json:"type"`
	// Offset and Size are in bytes.
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
	// ReadOnly sets the attribute of that name (bit 60).
	ReadOnly bool `json:"readOnly"`
	// Content is what the build writes there.
	Content Content `json:"content"`
}

// biosSize is for GRUB's core image, which has 150 KB.
const biosSize = document.MiB

// Layout places the partitions on the disk.
func (p Plan) Layout() Layout {
	disk := p.Image.Disk
	type row struct {
		label, kind string
		size        document.Size
		content     Content
	}
	var table []row
	if p.Image.BIOS() {
		// First, where the oldest BIOS can read.
		table = append(table, row{nodefs.LabelBIOS, TypeBIOS, biosSize, ContentBIOS})
	}
	table = append(table, []row{
		{nodefs.LabelESP, TypeESP, disk.ESP, ContentESP},
		{nodefs.LabelRootA, TypeRoot, disk.Root, ContentRoot},
		{nodefs.LabelRootAVerity, TypeRootVerity, disk.Verity, ContentVerity},
		{nodefs.LabelRootB, TypeRoot, disk.Root, ContentEmpty},
		{nodefs.LabelRootBVerity, TypeRootVerity, disk.Verity, ContentEmpty},
	}...)
	layout := Layout{StateLabel: nodefs.LabelState, StateMinimum: disk.StateMinimum}
	offset := alignment
	for _, row := range table {
		layout.Partitions = append(layout.Partitions, Partition{
			Label: row.label, TypeGUID: row.kind, Offset: int64(offset), Size: int64(row.size),
			ReadOnly: row.kind == TypeRoot || row.kind == TypeRootVerity, Content: row.content,
		})
		offset += row.size
	}
	layout.Size = offset + alignment
	return layout
}

// MinimumDisk is the least size of a node's disk.
func (l Layout) MinimumDisk() document.Size { return l.Size + l.StateMinimum }

// Blocks and digests of the hash tree (dm-verity, format 1, SHA-256).
const (
	verityBlock  = 4096
	verityDigest = 32
)

// verityFor is the room that the hash tree of a full root needs, superblock included, in whole MiB.
func verityFor(root document.Size) document.Size {
	blocks, tree := root/verityBlock, document.Size(1)
	for blocks > 1 {
		blocks = (blocks*verityDigest + verityBlock - 1) / verityBlock
		tree += blocks
	}
	return (tree*verityBlock + alignment - 1) / alignment * alignment
}
