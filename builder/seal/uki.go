package seal

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
)

// UKI is what goes into a unified kernel image: one EFI program whose sections hold everything that boots, so that one
// signature, or one hash in a measured boot, covers it (UAPI Group Specification: Unified Kernel Image).
type UKI struct {
	// Stub is systemd-stub's path.
	Stub string
	// Kernel and Initramfs are paths.
	Kernel    string
	Initramfs string
	// CommandLine is the kernel's.
	CommandLine string
	// OSRelease is the text of os-release; boot loaders show its PRETTY_NAME and sort by its version.
	OSRelease string
	// Uname is the kernel's release.
	Uname string
}

const (
	// flagsData marks a section as initialised, readable data.
	flagsData = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
	// flagsKernel lets firmware that enforces it execute the section.
	flagsKernel   = pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_READ | pe.IMAGE_SCN_MEM_EXECUTE
	sectionHeader = 40 // bytes of a section table entry (PE specification, section 4)
)

// Build returns the EFI program's bytes.
func (u UKI) Build() ([]byte, error) {
	kernel, err := os.ReadFile(u.Kernel)
	if err != nil {
		return nil, err
	}
	initramfs, err := os.ReadFile(u.Initramfs)
	if err != nil {
		return nil, err
	}
	stub, err := os.ReadFile(u.Stub)
	if err != nil {
		return nil, err
	}
	image, err := openImage(stub)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", u.Stub, err)
	}
	if err := image.mergeSBAT(kernel); err != nil {
		return nil, err
	}
	// The kernel comes last but one: the stub may unpack it in place, and the initramfs is what grows.
	for _, s := range []section{
		{".osrel", []byte(u.OSRelease), flagsData}, {".cmdline", []byte(u.CommandLine), flagsData},
		{".uname", []byte(u.Uname), flagsData}, {".linux", kernel, flagsKernel}, {".initrd", initramfs, flagsData},
	} {
		if err := image.add(s); err != nil {
			return nil, err
		}
	}
	return image.bytes(), nil
}

type section struct {
	name  string
	data  []byte
	flags uint32
}

// image is a PE32+ file that sections are appended to.
type image struct {
	data             []byte
	headers          int // offset of the PE signature
	optional         int // offset of the optional header
	table            int // offset of the section table
	count            int
	sectionAlignment uint32
	fileAlignment    uint32
	sizeOfHeaders    uint32
	endOfMemory      uint32
}

// Offsets within the optional header of PE32+ (PE specification, sections 3.4.1 and 3.4.2).
const (
	optSizeOfInitializedData = 8
	optSectionAlignment      = 32
	optFileAlignment         = 36
	optSizeOfImage           = 56
	optSizeOfHeaders         = 60
	optCheckSum              = 64
)

func openImage(data []byte) (*image, error) {
	file, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	header, ok := file.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return nil, fmt.Errorf("not a PE32+ file")
	}
	img := &image{count: len(file.Sections), sectionAlignment: header.SectionAlignment, fileAlignment: header.FileAlignment, sizeOfHeaders: header.SizeOfHeaders}
	img.headers = int(binary.LittleEndian.Uint32(data[0x3c:]))
	img.optional = img.headers + 4 + binary.Size(file.FileHeader)
	img.table = img.optional + int(file.FileHeader.SizeOfOptionalHeader)
	end := uint32(0)
	for _, s := range file.Sections {
		end = max(end, s.Offset+s.Size)
		img.endOfMemory = max(img.endOfMemory, s.VirtualAddress+s.VirtualSize)
	}
	// Whatever lies behind the last section (symbols, a signature) would end up inside ours.
	img.data = append([]byte(nil), data[:end]...)
	return img, nil
}

// add appends a section to the file and its header to the table.
func (img *image) add(s section) error {
	at := img.table + img.count*sectionHeader
	if at+sectionHeader > int(img.sizeOfHeaders) {
		return fmt.Errorf("adding section %s: the stub has no room for another section header", s.name)
	}
	img.data = pad(img.data, img.fileAlignment)
	address := roundUp(img.endOfMemory, img.sectionAlignment)
	header := pe.SectionHeader32{
		VirtualSize: uint32(len(s.data)), VirtualAddress: address,
		SizeOfRawData: roundUp(uint32(len(s.data)), img.fileAlignment), PointerToRawData: uint32(len(img.data)), Characteristics: s.flags,
	}
	copy(header.Name[:], s.name)
	var encoded bytes.Buffer
	if err := binary.Write(&encoded, binary.LittleEndian, header); err != nil {
		return err
	}
	copy(img.data[at:], encoded.Bytes())
	img.data = pad(append(img.data, s.data...), img.fileAlignment)
	img.endOfMemory = address + header.VirtualSize
	img.count++
	initialized := img.data[img.optional+optSizeOfInitializedData:]
	binary.LittleEndian.PutUint32(initialized, binary.LittleEndian.Uint32(initialized)+header.SizeOfRawData)
	return nil
}

// mergeSBAT appends the kernel's revocation entries to the stub's: shim checks one .sbat section only.
func (img *image) mergeSBAT(kernel []byte) error {
	file, err := pe.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return fmt.Errorf("reading the kernel as an EFI program: %w", err)
	}
	entries := file.Section(".sbat")
	if entries == nil {
		return nil
	}
	text, err := entries.Data()
	if err != nil {
		return err
	}
	_, text, _ = bytes.Cut(bytes.TrimRight(text, "\x00"), []byte("\n")) // its first line, "sbat,1,...", is in the stub's already
	for i := range img.count {
		header := img.data[img.table+i*sectionHeader:]
		if strings.TrimRight(string(header[:8]), "\x00") != ".sbat" {
			continue
		}
		used, room := binary.LittleEndian.Uint32(header[8:]), binary.LittleEndian.Uint32(header[16:])
		offset := binary.LittleEndian.Uint32(header[20:])
		if used+uint32(len(text)) > room {
			return fmt.Errorf("merging .sbat: the stub has room for %d bytes, the kernel's entries need %d", room-used, len(text))
		}
		copy(img.data[offset+used:], text)
		binary.LittleEndian.PutUint32(header[8:], used+uint32(len(text)))
		return nil
	}
	return fmt.Errorf("merging .sbat: the stub has no such section")
}

// bytes finishes the headers.
func (img *image) bytes() []byte {
	binary.LittleEndian.PutUint16(img.data[img.headers+6:], uint16(img.count))
	binary.LittleEndian.PutUint32(img.data[img.optional+optSizeOfImage:], roundUp(img.endOfMemory, img.sectionAlignment))
	binary.LittleEndian.PutUint32(img.data[img.optional+optCheckSum:], 0) // firmware ignores it
	return img.data
}

func pad(data []byte, alignment uint32) []byte {
	return append(data, make([]byte, roundUp(uint32(len(data)), alignment)-uint32(len(data)))...)
}

func roundUp(n, boundary uint32) uint32 { return (n + boundary - 1) / boundary * boundary }
