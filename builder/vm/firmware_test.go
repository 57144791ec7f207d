package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	uefiCode = "if=pflash,unit=0,format=raw,readonly=on,file=/t/usr/share/OVMF/OVMF_CODE_4M.fd"
	uefiVars = "if=pflash,unit=1,format=raw,file=/vm/firmware-vars.fd"
)

func TestFirmwareArguments(t *testing.T) {
	for name, row := range map[string]struct {
		options                 Options
		machine, drives, netdev []string
		devices                 string
	}{
		"a disk by BIOS": {
			options: Options{Firmware: BIOS, Disk: "/d.raw"}, machine: []string{"q35"},
			drives:  []string{"if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file=/vm/disk.qcow2"},
			devices: "virtio-blk-pci,drive=disk,serial=kiln,bootindex=2",
		},
		"Secure Boot": {
			options: Options{Firmware: SecureBoot, Disk: "/d.raw"}, machine: []string{"q35,smm=on"},
			drives: []string{
				strings.Replace(uefiCode, "CODE_4M", "CODE_4M.secboot", 1), uefiVars, "if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file=/vm/disk.qcow2",
			},
			devices: "virtio-blk-pci,drive=disk,serial=kiln,bootindex=2",
		},
		"a CD": {
			options: Options{Medium: "/a,b.iso"}, machine: []string{"q35"},
			drives:  []string{uefiCode, uefiVars, "if=none,id=medium,media=cdrom,format=raw,readonly=on,file=/a,,b.iso"},
			devices: "ide-cd,drive=medium,bootindex=1",
		},
		"a USB stick by BIOS": {
			options: Options{Firmware: BIOS, Medium: "/a.iso", MediumUSB: true}, machine: []string{"q35"},
			drives:  []string{"if=none,id=medium,format=raw,readonly=on,file=/a.iso"},
			devices: "usb-storage,drive=medium,bootindex=1",
		},
		"the network by BIOS": {
			options: Options{Firmware: BIOS, BootFile: "http://10.0.2.100/boot.ipxe"}, machine: []string{"q35"},
			netdev: []string{"user,id=net0,restrict=on,ipv6=off,bootfile=http://10.0.2.100/boot.ipxe"}, devices: "virtio-net-pci,netdev=net0,bootindex=3",
		},
		"the network by UEFI": {
			options: Options{BootFile: "kiln.efi"}, machine: []string{"q35"}, drives: []string{uefiCode, uefiVars},
			netdev: []string{"user,id=net0,restrict=on,ipv6=off,bootfile=kiln.efi"}, devices: "virtio-net-pci,netdev=net0,bootindex=3,romfile=",
		},
	} {
		t.Run(name, func(t *testing.T) {
			row.options.Tree, row.options.Dir, row.options.Accel = fakeTree("/t"), "/vm", TCG
			args := Arguments(row.options)
			if got := after(args, "-machine"); !slices.Equal(got, row.machine) {
				t.Errorf("-machine is %q; want %q", got, row.machine)
			}
			if got := after(args, "-drive"); !slices.Equal(got, row.drives) {
				t.Errorf("-drive is\n%q; want\n%q", got, row.drives)
			}
			if got := after(args, "-netdev"); row.netdev != nil && !slices.Equal(got, row.netdev) {
				t.Errorf("-netdev is %q; want %q", got, row.netdev)
			}
			if got := after(args, "-device"); !slices.Contains(got, row.devices) {
				t.Errorf("-device is %q, without %q", got, row.devices)
			}
		})
	}
}

// The variables are made once, and only for firmware that has some.
func TestVariables(t *testing.T) {
	tree, dir := fakeTree(t.TempDir()), t.TempDir()
	vars := filepath.Join(dir, fileVars)
	for _, o := range []Options{{Firmware: BIOS}, {Kernel: "/k"}} {
		o.Tree, o.Dir = tree, dir
		if err := prepareVariables(o); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(vars); err == nil {
			t.Errorf("%+v has variables", o)
		}
	}
	o := Options{Tree: tree, Dir: dir, Firmware: SecureBoot}
	if err := prepareVariables(o); err == nil {
		t.Error("a tree without firmware is no error")
	}
	template := tree.Path("usr/share/OVMF/OVMF_VARS_4M.fd")
	if err := os.MkdirAll(filepath.Dir(template), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second"} {
		if err := os.WriteFile(template, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := prepareVariables(o); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(vars); err != nil || string(text) != "first" {
		t.Errorf("the variables are %q, %v; want those of the first start", text, err)
	}
}
