// Package install defines install.json: what an installer writes to a disk, and where on it. The builder puts the
// document beside the files of a live set (PXE directory, ISO); the installer of a live system reads it. The kernel
// command line of the live system carries the document's SHA-256, so that everything it names is covered too.
package install

import (
	"encoding/json"

	"github.com/kiln-os/kiln/internal/document"
)

// Kind is the document's kind.
const Kind = "Install"

// File is the document's name in the directory of a live set.
const File = "install.json"

// What a partition holds after the installation.
const (
	// ContentESP, ContentRoot, ContentVerity and ContentBIOS are the files of the manifest's fields of those names.
	ContentESP    = "esp"
	ContentRoot   = "root"
	ContentVerity = "verity"
	ContentBIOS   = "bios"
	// ContentState is left for the first boot to make a filesystem in; what was there before is made unreadable.
	ContentState = "state"
	// ContentNone stays empty.
	ContentNone = ""
)

// Grain is what partitions are aligned to, in bytes. The first grain of the disk holds the partition table, boot code and
// the installer's own record; the last one the table's backup.
const Grain = 1 << 20

// BootCodeSize is the room for boot code in the first sector of a disk with a GUID partition table (UEFI specification,
// section 5.2.3, "Protective MBR"), in bytes.
const BootCodeSize = 440

// Manifest is the document.
type Manifest struct {
	document.Header
	// Image names the image for people, as in metal-disk v1.36.3-4f1c2ab0.
	Image string `json:"image,omitempty"`
	// RootHash is the dm-verity root hash of root and verity, 64 hexadecimal digits.
	RootHash string `json:"rootHash"`
	// ESP is the EFI system partition.
	ESP Blob `json:"esp"`
	// Root is the root partition: two squashfs images.
	Root Blob `json:"root"`
	// Verity is the hash tree over Root.
	Verity Blob `json:"verity"`
	// BIOS is the content of a partition that a BIOS loader starts from; a disk for UEFI alone has none.
	BIOS *Blob `json:"bios,omitempty"`
	// BootCode is what a BIOS starts: at most 440 bytes for the beginning of the disk's first sector.
	BootCode *Blob `json:"bootCode,omitempty"`
	// Disk says where all that goes.
	Disk Disk `json:"disk"`
}

// Blob is the bytes of one part of the disk.
type Blob struct {
	// File is the name of a file beside install.json. One that ends in .zst is compressed with zstd.
	File string `json:"file"`
	// Size is how many bytes there are, decompressed.
	Size int64 `json:"size"`
	// SHA256 is their digest, decompressed, 64 hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// Disk is a partition table.
type Disk struct {
	// ID is the disk's GUID.
	ID string `json:"id"`
	// Size is how many bytes a disk has to have at least.
	Size int64 `json:"size"`
	// Partitions are in the order of their offsets.
	Partitions []Partition `json:"partitions"`
}

// Partition is one entry of the partition table.
type Partition struct {
	// Label is the partition's name, at most 36 UTF-16 units.
	Label string `json:"label"`
	// Type and ID are GUIDs in text form.
	Type string `json:"type"`
	ID   string `json:"id"`
	// Offset and Size are in bytes, whole MiB.
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
	// ReadOnly sets GPT attribute bit 60 (Discoverable Partitions Specification).
	ReadOnly bool `json:"readOnly,omitempty"`
	// LegacyBoot sets GPT attribute bit 2: boot code for BIOS starts this partition (UEFI specification, table 5-8).
	LegacyBoot bool `json:"legacyBoot,omitempty"`
	// Content is esp, root, verity, bios, state, or nothing.
	Content string `json:"content,omitempty"`
}

// End is the first byte behind the partition.
func (p Partition) End() int64 { return p.Offset + p.Size }

// Blob is what a partition of that content holds; false means that it holds none.
func (m Manifest) Blob(content string) (Blob, bool) {
	switch content {
	case ContentESP:
		return m.ESP, true
	case ContentRoot:
		return m.Root, true
	case ContentVerity:
		return m.Verity, true
	case ContentBIOS:
		if m.BIOS != nil {
			return *m.BIOS, true
		}
	}
	return Blob{}, false
}

// With is the partition with that content; false means that there is none.
func (d Disk) With(content string) (Partition, bool) {
	for _, p := range d.Partitions {
		if p.Content == content {
			return p, true
		}
	}
	return Partition{}, false
}

// End is the first byte behind the last partition.
func (d Disk) End() int64 {
	end := int64(Grain)
	for _, p := range d.Partitions {
		end = max(end, p.End())
	}
	return end
}

// Parse reads a manifest and checks it; file is its name for messages. All problems are reported at once.
func Parse(file string, text []byte) (Manifest, error) {
	var m Manifest
	if err := document.Decode(file, text, Kind, &m); err != nil {
		return Manifest{}, err
	}
	return m, m.Validate(file)
}

// Render writes the manifest as install.json has it, header included; the same manifest gives the same bytes.
func (m Manifest) Render() ([]byte, error) {
	m.Header = document.Header{APIVersion: document.APIVersion, Kind: Kind}
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}
