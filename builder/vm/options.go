package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Options describe a machine.
type Options struct {
	Tree Tree
	Host Host
	// Dir is the machine's own directory: overlay disk, firmware variables, logs, sockets. A second start with the same
	// directory boots the same machine again.
	Dir string
	// Firmware starts the machine; the zero value is UEFI.
	Firmware Firmware
	// Disk is the image to boot; it is not changed. Raw, unless its name ends in .qcow2.
	Disk string
	// DiskSize is how large the machine's disk is in bytes, if larger than the image.
	DiskSize int64
	// Kernel, Initrd and Append boot a kernel directly, without firmware or disk.
	Kernel, Initrd, Append string
	// Medium is an ISO image to boot, as a CD or, with MediumUSB, as a USB disk.
	Medium    string
	MediumUSB bool
	// BootFile is the URL that the machine's DHCP server names for those that boot from the network.
	BootFile string
	// Cable connects the machine's network card to a tap device instead of a network of QEMU's own; the firmware then boots
	// from it when it finds nothing before it. The machine has to be started in the tap device's network namespace.
	Cable Cable
	// Target is a disk in raw format that the machine writes to, serial number "target"; the firmware tries it last. It is
	// the machine's disk without an image below it: what is installed there stays.
	Target string
	// MemoryMiB defaults to 4096, CPUs to 2.
	MemoryMiB int
	CPUs      int
	// Accel is TCG or KVM; default TCG. See ChooseAccel.
	Accel Accel
	// Ignition is a file handed to the machine by fw_cfg as opt/com.coreos/config.
	Ignition string
	// ExtraDisks are further disks, read-only, in raw format.
	ExtraDisks []string
	// DataDisks are further disks in raw format that the machine may write to; their serial numbers are data0, data1 and so on.
	DataDisks []string
	// KernelArguments are appended to the kernel command line by systemd-stub, through SMBIOS; Secure Boot must be off.
	KernelArguments string
	// Credentials are systemd credentials by name; systemd.extra-unit.NAME and systemd.unit-dropin.NAME become units.
	// They are visible in QEMU's arguments or in the machine's directory: no secrets.
	Credentials map[string]string
	// APIPort is the port of 127.0.0.1 that is forwarded to the machine's API server; 0 forwards nothing.
	APIPort int
	// Server is a command that QEMU runs for each connection that the machine makes to Served, with the connection as its
	// input and output: the one way out of the machine's network. Empty leaves none.
	Server string
	// NoReboot ends QEMU when the machine wants to reboot.
	NoReboot bool
	// Detach lets the machine outlive this process.
	Detach bool
	// Console, when set, also receives what the machine writes to its console.
	Console io.Writer
}

// Cable is what a machine's network card is plugged into; the zero value is nothing.
type Cable struct {
	// Tap is the tap device's name, and MAC the card's address.
	Tap, MAC string
	// HTTP makes UEFI load its boot file by HTTP only, and not by PXE before.
	HTTP bool
}

// Defaults of a machine.
const (
	DefaultMemoryMiB = 4096
	DefaultCPUs      = 2
	DefaultDiskSize  = 12 << 30
)

// complete fills in defaults, makes paths absolute (QEMU runs in Dir), and says everything that is wrong.
func (o Options) complete() (Options, error) {
	if o.MemoryMiB == 0 {
		o.MemoryMiB = DefaultMemoryMiB
	}
	if o.CPUs == 0 {
		o.CPUs = DefaultCPUs
	}
	if o.Accel == "" {
		o.Accel = TCG
	}
	var problems []error
	place := func(what string, path *string) {
		if *path == "" {
			return
		}
		absolute, err := existing(*path)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
		}
		*path = absolute
	}
	place("disk image", &o.Disk)
	place("medium", &o.Medium)
	place("target disk", &o.Target)
	place("kernel", &o.Kernel)
	place("initrd", &o.Initrd)
	place("Ignition config", &o.Ignition)
	o.ExtraDisks = slices.Clone(o.ExtraDisks)
	for i := range o.ExtraDisks {
		place("extra disk", &o.ExtraDisks[i])
	}
	o.DataDisks = slices.Clone(o.DataDisks)
	for i := range o.DataDisks {
		place("data disk", &o.DataDisks[i])
	}
	firmware := o.Disk != "" || o.Medium != "" || o.BootFile != ""
	if firmware && o.Kernel != "" || !firmware && o.Kernel == "" && o.Cable.Tap == "" && o.Target == "" {
		problems = append(problems, errors.New("machine: want either a kernel to boot, or a disk image, a medium or a boot file for the firmware"))
	}
	if o.Cable.Tap != "" && (o.BootFile != "" || o.APIPort != 0 || o.Server != "") {
		problems = append(problems, errors.New("machine: a boot file, a forwarded port and a server are of QEMU's own network; want them or a cable"))
	}
	absolute, err := filepath.Abs(o.Dir)
	if o.Dir == "" || err != nil {
		problems = append(problems, errors.New("machine: want a directory"))
	}
	o.Dir = absolute
	return o, errors.Join(problems...)
}

func existing(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return path, err
	}
	return filepath.Abs(path)
}

// State is what a machine's directory says about the machine.
type State struct {
	// PID is QEMU's process number.
	PID int `json:"pid"`
	// Started is when QEMU was started.
	Started time.Time `json:"started"`
	// APIPort is the port of 127.0.0.1 that leads to the machine's API server, or 0.
	APIPort int `json:"apiPort"`
	// Disk, Size and Modified identify the image below the overlay: an overlay fits no other image.
	Disk     string    `json:"disk"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}
