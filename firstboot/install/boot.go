package install

import (
	"context"
	"errors"
	"fmt"
)

// How the disk is booted.
const (
	// BootAuto starts the installed kernel at once where the live kernel can, and restarts the machine where it cannot.
	BootAuto = ""
	// BootKexec starts the installed kernel at once; that it cannot is an error.
	BootKexec = "kexec"
	// BootReboot restarts the machine.
	BootReboot = "reboot"
	// BootPowerOff turns the machine off: it is to be started elsewhere.
	BootPowerOff = "poweroff"
)

// ending says what happens to the machine, for people.
func ending(boot string) string {
	if boot == BootPowerOff {
		return "turning the machine off"
	}
	return "booting it"
}

// Loader leaves the live system.
type Loader interface {
	// Load reads the kernel of partition esp of the disk and keeps it ready.
	Load(ctx context.Context, disk string, esp int) error
	// Leave stops the live system in an orderly way: into the loaded kernel (kexec), or reboot or poweroff.
	Leave(ctx context.Context, how string) error
}

// prepareBoot makes the firmware prefer the disk, and decides on the way out of the live system.
func (i *Installer) prepareBoot(ctx context.Context) (string, error) {
	t, err := i.Open(i.disk.Path, false)
	if err != nil {
		return "", err
	}
	entries, _, err := readTable(t)
	sector := t.Sector
	if err := errors.Join(err, t.Close()); err != nil {
		return "", err
	}
	var esp entry
	for _, e := range entries {
		if e.kind == typeESP {
			esp = e
		}
	}
	if esp.number == 0 {
		return "", fmt.Errorf("booting %s: it has no EFI system partition; it was not installed by kiln, or somebody has changed it since", i.disk.Path)
	}
	i.tellFirmware(esp, sector)
	how := i.Request.Boot
	if how == BootAuto || how == BootKexec {
		switch err := i.Loader.Load(ctx, i.disk.Path, esp.number); {
		case err == nil:
			how = BootKexec
		case how == BootKexec:
			return "", fmt.Errorf("loading the installed kernel: %w", err)
		default:
			i.Say("install-boot", fmt.Sprintf("the installed kernel cannot be started from here (%s); restarting the machine", err))
			how = BootReboot
		}
	}
	i.how = how
	return how, nil
}

// Leave leaves the live system, after all steps.
func (i *Installer) Leave(ctx context.Context) error { return i.Loader.Leave(ctx, i.how) }

// tellFirmware is worth a try and no more: a disk boots from firmware without an entry for it, too, and a machine whose
// firmware prefers the network comes back here, where the disk is known.
func (i *Installer) tellFirmware(esp entry, sector int64) {
	name, err := preferDisk(i.Firmware, esp, sector)
	switch {
	case errors.Is(err, ErrNoFirmware):
		i.Say("install-boot", "a BIOS has no boot order that can be set from here")
	case err != nil:
		i.Say("install-boot", fmt.Sprintf("the firmware does not take the disk into its boot order: %s", err))
	default:
		i.Say("install-boot", fmt.Sprintf("the firmware boots %s (%s) from now on", i.disk.Path, name))
	}
}
