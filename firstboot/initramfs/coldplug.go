package initramfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// coldplug loads modules for the devices that the machine has. Drivers of buses bring further devices to light, so
// plug is called until what is looked for is there.
type coldplug struct {
	sys     string
	modules *modules
	// seen are the modaliases that were looked up already.
	seen map[string]bool
}

// plug begins to load the modules for devices that have come since the last call, and does not wait: a disk controller may look
// for disks for seconds while the root is on another. Only what the processor asks for is loaded at once: checksums
// are chosen when they are first used. A module that is refused is no reason to stop: another may drive the device.
func (c *coldplug) plug() {
	for _, modalias := range readModaliases(c.sys) {
		if c.seen[modalias] {
			continue
		}
		c.seen[modalias] = true
		for _, name := range modulesFor(c.modules.aliases, modalias) {
			if strings.HasPrefix(modalias, "cpu:") {
				_ = c.modules.load(name)
			} else {
				go func() { _ = c.modules.load(name) }()
			}
		}
	}
}

// readModaliases lists the modaliases of the processor and of the devices on all buses. The processor's comes first; its
// features choose the fastest checksums. Buses are listed instead of all of /sys/devices: every device with a modalias is on one.
func readModaliases(sys string) []string {
	devices, _ := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
	files := append([]string{filepath.Join(sys, "devices/system/cpu/modalias")}, devices...)
	var modaliases []string
	for _, file := range files {
		// A device may go while it is looked at.
		if text, err := os.ReadFile(file); err == nil {
			if modalias := strings.TrimSpace(string(text)); modalias != "" {
				modaliases = append(modaliases, modalias)
			}
		}
	}
	return modaliases
}

// driverless lists the PCI storage controllers that no driver has taken, for the message when no disk was found.
func driverless(sys string) []string {
	const massStorage = "0x01" // PCI class code, its first byte.
	var lines []string
	devices, _ := filepath.Glob(filepath.Join(sys, "bus/pci/devices/*"))
	for _, device := range devices {
		class, err := os.ReadFile(filepath.Join(device, "class"))
		if err != nil || !strings.HasPrefix(string(class), massStorage) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(device, "driver")); err == nil {
			continue
		}
		modalias, _ := os.ReadFile(filepath.Join(device, "modalias"))
		lines = append(lines, fmt.Sprintf("%s (%s)", filepath.Base(device), strings.TrimSpace(string(modalias))))
	}
	return lines
}
