package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/kiln-os/kiln/builder/bake"
	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/document"
)

// bootable are the files that a virtual machine of kiln boots from.
func bootable() []string { return []string{bake.FileDisk, bake.FileQCOW2} }

// options checks the flags before anything is made.
func (f vmFlags) options(dir string) (vm.Options, vm.Accel, error) {
	o := vm.Options{
		MemoryMiB: f.memory, CPUs: f.cpus, Ignition: f.identity,
		KernelArguments: f.extra, APIPort: f.port, Detach: f.detach, Host: command.Exec{},
	}
	manifest, err := bake.ReadManifest(dir)
	if err != nil {
		return o, "", err
	}
	var problems []error
	o.Disk = filepath.Join(dir, manifest.Disk())
	if !slices.Contains(bootable(), manifest.Disk()) {
		problems = append(problems, usagef("%s: holds image %s of format %s, which kiln vm does not boot; want one of format %s or %s, as vm-disk or cloud-qcow2 are",
			dir, manifest.Image, manifest.Format, plan.FormatDisk, plan.FormatQCOW2))
	}
	accel, err := vm.ParseAccel(f.accel)
	if err != nil {
		problems = append(problems, usageError{err})
	}
	if o.Firmware, err = vm.ParseFirmware(f.firmware); err != nil {
		problems = append(problems, usageError{err})
	} else if f.extra != "" && o.Firmware != vm.UEFI {
		problems = append(problems, usagef("--append reaches the kernel by way of UEFI without Secure Boot only; leave out --append or --firmware"))
	}
	size, err := document.ParseSize(f.size)
	if err != nil {
		problems = append(problems, usagef("--disk-size: %w", err))
	} else if int64(size) < manifest.MinimumDisk {
		problems = append(problems, usagef("--disk-size: %s is too small for this image; want at least %s", size, document.Size(manifest.MinimumDisk)))
	}
	o.DiskSize = int64(size)
	if f.wait != "ready" && f.wait != "none" {
		problems = append(problems, usagef("--wait: unknown %q (want ready or none)", f.wait))
	}
	if f.console && f.detach {
		problems = append(problems, usagef("--console shows what a machine says, --detach leaves it; want one of them"))
	}
	return o, accel, errors.Join(append(problems, checkIgnition(f.identity), checkPort(f.port))...)
}

// checkIgnition finds the usual mistake, an identity instead of the config that holds it, before a machine boots in vain.
func checkIgnition(path string) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return usagef("--identity: %w", err)
	}
	var config struct {
		Ignition *struct{} `json:"ignition"`
	}
	if json.Unmarshal(text, &config) != nil || config.Ignition == nil {
		return usagef("--identity: %s is not an Ignition config; kiln identity new and kiln cluster render make one, config.ign", path)
	}
	return nil
}

func checkPort(port int) error {
	if port == 0 {
		return nil
	}
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return usagef("--api-port: %d cannot be used (%v); stop what uses it or choose another one", port, err)
	}
	return listener.Close()
}
