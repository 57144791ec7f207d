package sbom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// Package is an installed Debian package.
type Package struct {
	Name, Version string
	// Architecture is amd64 or all.
	Architecture string
	// Source is the source package, empty when it is called like the package; SourceVersion its version, empty when it is
	// the package's.
	Source, SourceVersion string
}

// ParseStatus reads a dpkg status file and lists the packages whose files are there, in the file's order.
func ParseStatus(text string) []Package {
	var packages []Package
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		var p Package
		present := false
		for line := range strings.Lines(paragraph) {
			key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
			switch key {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "Architecture":
				p.Architecture = value
			case "Source":
				p.Source, p.SourceVersion, _ = strings.Cut(value, " ")
				p.SourceVersion = strings.Trim(p.SourceVersion, "()")
			case "Status":
				// The last word is the state; of a removed package the database may still know config-files.
				present = strings.HasSuffix(value, " installed") || strings.HasSuffix(value, " unpacked")
			}
		}
		if present && p.Name != "" {
			packages = append(packages, p)
		}
	}
	return packages
}

func (p Package) source() string {
	if p.Source == "" {
		return p.Name
	}
	return p.Source
}

func (d document) addPackage(p Package) string {
	purl := debPurl(p, d.suite)
	d.add(cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: purl})
	return purl
}

// Offsets in a Linux kernel image, from the kernel's Documentation/arch/x86/boot.rst: the header's magic number, and where
// the version's text lies, counted from the end of the first sector.
const (
	offsetMagic   = 0x202
	offsetVersion = 0x20e
	firstSector   = 0x200
)

// FindKernel reads from the beginning of a kernel image (64 KiB are enough) which Debian package it comes from. Its
// version text is, as in
//
//	6.12.117+deb13-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)
//
// A kernel that somebody built for himself names no package version; its release stands in for it.
func FindKernel(image []byte) (Package, error) {
	if len(image) < offsetVersion+2 || string(image[offsetMagic:offsetMagic+4]) != "HdrS" {
		return Package{}, errors.New("reading the kernel's version: it is not a Linux kernel image")
	}
	at := firstSector + int(binary.LittleEndian.Uint16(image[offsetVersion:]))
	if at >= len(image) {
		return Package{}, errors.New("reading the kernel's version: it lies behind the end")
	}
	text, _, _ := bytes.Cut(image[at:], []byte{0})
	words := strings.Fields(string(text))
	if len(words) == 0 {
		return Package{}, errors.New("reading the kernel's version: it is empty")
	}
	// The packages come from linux-signed-amd64, which signs what linux built; Debian tracks linux.
	kernel := Package{Name: "linux-image-" + words[0], Version: words[0], Architecture: "amd64", Source: "linux"}
	if at := slices.Index(words, "Debian"); at >= 0 && at+1 < len(words) {
		kernel.Version = words[at+1]
	}
	return kernel, nil
}

// FindLoader reads from systemd-boot or its stub (an EFI program) the version of its Debian package, which it keeps as
// "#### LoaderInfo: systemd-boot 257.13-1~deb13u1 ####" for those who update it.
func FindLoader(program []byte) (Package, error) {
	_, rest, _ := bytes.Cut(program, []byte("#### LoaderInfo: systemd-"))
	info, _, found := bytes.Cut(rest, []byte(" ####"))
	_, version, ok := strings.Cut(string(info), " ")
	if !found || !ok || len(info) > 80 {
		return Package{}, errors.New("reading the boot loader's version: it is not systemd-boot")
	}
	return Package{Name: "systemd-boot-efi", Version: version, Architecture: "amd64", Source: "systemd"}, nil
}
