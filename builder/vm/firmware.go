package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Firmware is what starts a machine that boots from a disk, a medium or the network.
type Firmware string

// Kinds of firmware. SecureBoot is UEFI in setup mode: it trusts no key until some are enrolled, and from then on starts
// nothing that they have not signed. The zero value is UEFI.
const (
	UEFI       Firmware = "uefi"
	SecureBoot Firmware = "secure-boot"
	BIOS       Firmware = "bios"
)

// ParseFirmware reads the name of a kind of firmware.
func ParseFirmware(name string) (Firmware, error) {
	switch f := Firmware(name); f {
	case UEFI, SecureBoot, BIOS:
		return f, nil
	}
	return "", fmt.Errorf("--firmware: unknown %q (want %s, %s or %s)", name, UEFI, SecureBoot, BIOS)
}

// code is the file with the firmware's program; empty for a BIOS, which QEMU brings along.
func (f Firmware) code() string {
	switch f {
	case BIOS:
		return ""
	case SecureBoot:
		return "OVMF_CODE_4M.secboot.fd"
	default:
		return "OVMF_CODE_4M.fd"
	}
}

// machine is QEMU's machine type; Secure Boot's variables are out of reach of the operating system only with SMM.
func (f Firmware) machine() []string {
	if f == SecureBoot {
		return []string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"}
	}
	return []string{"-machine", "q35"}
}

func (f Firmware) arguments(o Options) []string {
	if f.code() == "" {
		return nil
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + escape(o.Tree.Path("usr/share/OVMF", f.code())),
		"-drive", "if=pflash,unit=1,format=raw,file=" + escape(filepath.Join(o.Dir, fileVars)),
	}
}

// prepareVariables makes the firmware's variables, once: a machine keeps what was enrolled.
func prepareVariables(o Options) error {
	if o.Kernel != "" || o.Firmware.code() == "" {
		return nil
	}
	vars := filepath.Join(o.Dir, fileVars)
	if _, err := os.Stat(vars); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := os.ReadFile(o.Tree.Path("usr/share/OVMF/OVMF_VARS_4M.fd"))
	if err != nil {
		return fmt.Errorf("reading the firmware's variables: %w", err)
	}
	if err := os.WriteFile(vars, text, 0o644); err != nil {
		return fmt.Errorf("writing the firmware's variables: %w", err)
	}
	return nil
}

// mediumArguments attach an ISO image as a CD drive or as a USB disk, which the firmware tries before any disk.
func mediumArguments(o Options) []string {
	if o.Medium == "" {
		return nil
	}
	if o.MediumUSB {
		return []string{
			"-drive", "if=none,id=medium,format=raw,readonly=on,file=" + escape(o.Medium),
			"-device", "qemu-xhci", "-device", "usb-storage,drive=medium,bootindex=1",
		}
	}
	return []string{"-drive", "if=none,id=medium,media=cdrom,format=raw,readonly=on,file=" + escape(o.Medium), "-device", "ide-cd,drive=medium,bootindex=1"}
}
