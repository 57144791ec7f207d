package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Kinds of firmware that an image can start from.
const (
	FirmwareUEFI = "uefi"
	FirmwareBIOS = "bios"
)

// Firmwares lists them.
func Firmwares() []string { return []string{FirmwareUEFI, FirmwareBIOS} }

// BIOS tells whether the image also starts from a BIOS. UEFI always starts it.
func (i Image) BIOS() bool { return slices.Contains(i.Firmware, FirmwareBIOS) }

// Starts lists what the image starts from.
func (i Image) Starts() []string {
	if len(i.Firmware) == 0 {
		return []string{FirmwareUEFI}
	}
	return i.Firmware
}

// Live tells whether the image's format is started without being written to a disk. The disk that it describes is the one that
// an installation makes.
func (i Image) Live() bool { return i.Format == FormatPXE || i.Format == FormatISO }

func checkFirmware(p *document.Problems, image Image) {
	for i, name := range image.Firmware {
		field := fmt.Sprintf("firmware[%d]", i)
		checkChoice(p, field, name, Firmwares())
		if slices.Contains(image.Firmware[:i], name) {
			p.Add(field, "%s is there already; leave it out", name)
		}
	}
	if len(image.Firmware) > 0 && !slices.Contains(image.Firmware, FirmwareUEFI) {
		p.Add("firmware", "has no uefi, which every image starts from; want [uefi] or [uefi, bios]")
	}
	if image.Format == FormatISO && !image.BIOS() {
		p.Add("firmware", "an ISO image starts from both kinds of firmware; want [uefi, bios]")
	}
}

// LiveCommandLine is the kernel's command line for a root that is on none of the machine's disks. Root is a value of
// kiln.root, install the SHA-256 of install.json, in hex.
func (p Plan) LiveCommandLine(rootHash, root, install string) string {
	return strings.Join([]string{
		p.CommandLine(rootHash), nodefs.ParamRoot + "=" + root, nodefs.ParamInstallSHA256 + "=" + install,
	}, " ")
}
