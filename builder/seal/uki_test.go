package seal

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// program is a PE32+ file with the given sections, room for a few more headers, and symbols behind the last section.
func program(t *testing.T, sections ...section) string {
	t.Helper()
	const headers, fileAlignment, sectionAlignment = 0x400, 0x200, 0x1000
	write := func(out *bytes.Buffer, value any) {
		if err := binary.Write(out, binary.LittleEndian, value); err != nil {
			t.Fatal(err)
		}
	}
	var head, body bytes.Buffer
	head.WriteString("MZ" + strings.Repeat("\x00", 58))
	write(&head, uint32(64))
	head.WriteString("PE\x00\x00")
	optional := pe.OptionalHeader64{
		Magic: 0x20b, SectionAlignment: sectionAlignment, FileAlignment: fileAlignment, SizeOfHeaders: headers, NumberOfRvaAndSizes: 16,
		SizeOfImage: 0x1000, CheckSum: 0xdeadbeef,
	}
	write(&head, pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections)), SizeOfOptionalHeader: uint16(binary.Size(optional))})
	write(&head, optional)
	address := uint32(0x1000)
	for _, s := range sections {
		raw := roundUp(uint32(len(s.data)), fileAlignment)
		entry := pe.SectionHeader32{VirtualSize: uint32(len(s.data)), VirtualAddress: address, SizeOfRawData: raw,
			PointerToRawData: headers + uint32(body.Len()), Characteristics: s.flags}
		copy(entry.Name[:], s.name)
		write(&head, entry)
		body.Write(pad(bytes.Clone(s.data), fileAlignment))
		address = roundUp(address+uint32(len(s.data)), sectionAlignment)
	}
	file := append(head.Bytes(), make([]byte, headers-head.Len())...)
	file = append(append(file, body.Bytes()...), "symbols"...)
	return put(t, file)
}

func put(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	stubSBAT   = "sbat,1,SBAT Version,sbat,1,https://example.org\nsystemd-stub,1,...\n"
	kernelSBAT = "sbat,1,SBAT Version,sbat,1,https://example.org\nlinux,1,...\n"
)

func testUKI(t *testing.T) UKI {
	return UKI{
		Stub:        program(t, section{".text", []byte("stub code"), flagsKernel}, section{".sbat", []byte(stubSBAT), flagsData}),
		Kernel:      program(t, section{".text", []byte("kernel code"), flagsKernel}, section{".sbat", []byte(kernelSBAT + "\x00\x00"), flagsData}),
		Initramfs:   put(t, bytes.Repeat([]byte("initramfs"), 1000)),
		CommandLine: "roothash=00 quiet", OSRelease: "NAME=kiln\n", Uname: "6.12",
	}
}

func TestUKI(t *testing.T) {
	u := testUKI(t)
	image, err := u.Build()
	if err != nil {
		t.Fatal(err)
	}
	file, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(u.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	initramfs, err := os.ReadFile(u.Initramfs)
	if err != nil {
		t.Fatal(err)
	}
	want := []section{
		{".text", []byte("stub code"), flagsKernel}, {".sbat", []byte(stubSBAT + "linux,1,...\n"), flagsData},
		{".osrel", []byte(u.OSRelease), flagsData}, {".cmdline", []byte(u.CommandLine), flagsData}, {".uname", []byte(u.Uname), flagsData},
		{".linux", kernel, flagsKernel}, {".initrd", initramfs, flagsData},
	}
	if len(file.Sections) != len(want) {
		t.Fatalf("there are %d sections; want %d", len(file.Sections), len(want))
	}
	header := file.OptionalHeader.(*pe.OptionalHeader64)
	memory := uint32(0)
	for i, s := range file.Sections {
		text, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != want[i].name || s.Characteristics != want[i].flags || !bytes.Equal(text[:s.VirtualSize], want[i].data) {
			t.Errorf("section %d is %s with flags %x and %d bytes; want %s, %x and %d", i, s.Name, s.Characteristics, s.VirtualSize, want[i].name, want[i].flags, len(want[i].data))
		}
		if s.VirtualAddress < memory || s.VirtualAddress%header.SectionAlignment != 0 || s.Offset%header.FileAlignment != 0 {
			t.Errorf("section %s lies at %#x in memory, %#x in the file", s.Name, s.VirtualAddress, s.Offset)
		}
		memory = s.VirtualAddress + s.VirtualSize
	}
	if header.SizeOfImage != roundUp(memory, header.SectionAlignment) || header.CheckSum != 0 {
		t.Errorf("the image has the size %#x and the checksum %#x; its sections end at %#x", header.SizeOfImage, header.CheckSum, memory)
	}
	if bytes.Contains(image[:file.Sections[2].Offset], []byte("symbols")) {
		t.Error("what lay behind the stub's last section is still there")
	}
	if again, err := u.Build(); err != nil || !bytes.Equal(again, image) {
		t.Errorf("the same input has other bytes the second time (%v)", err)
	}
}

func TestUKIRefuses(t *testing.T) {
	long := section{".sbat", []byte(kernelSBAT + strings.Repeat("component,1,...\n", 100)), flagsData}
	for _, row := range []struct {
		summary string
		change  func(u *UKI)
		want    string
	}{
		{"a stub that is no program", func(u *UKI) { u.Stub = put(t, []byte("text")) }, "reading "},
		{"a kernel that is no EFI program", func(u *UKI) { u.Kernel = put(t, []byte("text")) }, "reading the kernel as an EFI program"},
		{"revocations without room", func(u *UKI) { u.Kernel = program(t, long) }, "merging .sbat: the stub has room for"},
		{"a stub without revocations", func(u *UKI) { u.Stub = program(t, section{".text", nil, flagsKernel}) }, "merging .sbat: the stub has no such section"},
		{"a stub without room for headers", func(u *UKI) {
			u.Stub = program(t, append(make([]section, 14), section{".sbat", []byte(stubSBAT), flagsData})...)
		}, "no room for another section header"},
		{"no initramfs", func(u *UKI) { u.Initramfs += ".none" }, "no such file"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			u := testUKI(t)
			row.change(&u)
			if _, err := u.Build(); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %v; want %q", err, row.want)
			}
		})
	}
}
