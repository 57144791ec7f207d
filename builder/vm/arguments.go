package vm

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Guest is the address that QEMU's user network gives the machine; the host is at 10.0.2.2.
const Guest = "10.0.2.15"

// Served is where Options.Server answers: the host and port of a server in the machine's network.
const Served = "10.0.2.100:80"

// Arguments are QEMU's arguments for a machine whose options are complete.
func Arguments(o Options) []string {
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none", "-name", "kiln",
		"-L", o.Tree.Path("usr/share/qemu"), "-L", o.Tree.Path("usr/share/seabios"),
		"-m", strconv.Itoa(o.MemoryMiB), "-smp", strconv.Itoa(o.CPUs),
		"-rtc", "base=utc",
		"-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
		// A console nobody reads must neither block the machine nor lose a line: the log file gets everything.
		"-chardev", "socket,id=console,path=" + socketConsole + ",server=on,wait=off,logfile=" + escape(filepath.Join(o.Dir, fileConsole)) + ",logappend=off",
		"-serial", "chardev:console",
		"-chardev", "socket,id=qmp,path=" + socketQMP + ",server=on,wait=off", "-mon", "chardev=qmp,mode=control",
	}
	args = append(args, o.Firmware.machine()...)
	args = append(args, o.Accel.arguments()...)
	args = append(args, bootArguments(o)...)
	args = append(args, networkArguments(o)...)
	for i, disk := range o.ExtraDisks {
		id := fmt.Sprintf("extra%d", i)
		args = append(args, "-drive", "if=none,id="+id+",format=raw,readonly=on,file="+escape(disk), "-device", "virtio-blk-pci,drive="+id+",serial="+id)
	}
	for i, disk := range o.DataDisks {
		id := fmt.Sprintf("data%d", i)
		args = append(args, "-drive", "if=none,id="+id+",format=raw,cache=unsafe,discard=unmap,file="+escape(disk), "-device", "virtio-blk-pci,drive="+id+",serial="+id)
	}
	if o.Target != "" {
		args = append(args, "-drive", "if=none,id=target,format=raw,cache=unsafe,discard=unmap,file="+escape(o.Target),
			"-device", "virtio-blk-pci,drive=target,serial=target,bootindex=4")
	}
	if o.Ignition != "" {
		args = append(args, "-fw_cfg", "name=opt/com.coreos/config,file="+escape(o.Ignition))
	}
	args = append(args, smbiosArguments(o)...)
	if o.NoReboot {
		args = append(args, "-no-reboot")
	}
	return args
}

// bootArguments boot a kernel directly, or let the firmware find what it starts: a medium, a disk, or the network.
func bootArguments(o Options) []string {
	if o.Kernel != "" {
		args := []string{"-kernel", o.Kernel, "-append", o.Append}
		if o.Initrd != "" {
			args = append(args, "-initrd", o.Initrd)
		}
		return args
	}
	args := append(o.Firmware.arguments(o), mediumArguments(o)...)
	if o.Disk == "" {
		return args
	}
	return append(args,
		// The host's crash safety does not matter; a machine that is killed keeps what it flushed, for the host's page cache has it.
		"-drive", "if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file="+escape(filepath.Join(o.Dir, fileDisk)),
		"-device", "virtio-blk-pci,drive=disk,serial=kiln,bootindex=2")
}

// networkArguments give the machine a network that leads nowhere: no route out, only the forwarded port leads in.
func networkArguments(o Options) []string {
	if o.Cable.Tap != "" {
		return o.cableArguments()
	}
	user := "user,id=net0,restrict=on,ipv6=off"
	if o.APIPort != 0 {
		user += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-%s:6443", o.APIPort, Guest)
	}
	if o.Server != "" {
		user += ",guestfwd=tcp:" + Served + "-cmd:" + escape(o.Server)
	}
	card := "virtio-net-pci,netdev=net0"
	switch {
	case o.BootFile == "":
		card += ",romfile=" // Without a boot ROM the firmware does not try the network.
	case o.Firmware == BIOS:
		user += ",bootfile=" + escape(o.BootFile)
		card += ",bootindex=3" // QEMU's ROM is iPXE.
	default:
		user += ",bootfile=" + escape(o.BootFile)
		card += ",bootindex=3,romfile=" // UEFI has a network stack of its own.
	}
	return []string{"-netdev", user, "-device", card}
}

// cableArguments plug the machine's card into a tap device. OVMF's own stack reads from QEMU which protocols it may use.
func (o Options) cableArguments() []string {
	card := "virtio-net-pci,netdev=net0,mac=" + escape(o.Cable.MAC)
	switch {
	case o.Kernel != "":
		card += ",romfile="
	case o.Firmware == BIOS:
		card += ",bootindex=3"
	default:
		card += ",bootindex=3,romfile="
	}
	args := []string{"-netdev", "tap,id=net0,script=no,downscript=no,ifname=" + escape(o.Cable.Tap), "-device", card}
	if o.Kernel == "" && o.Firmware != BIOS {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=no")
	}
	if o.Cable.HTTP {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no")
	}
	return args
}

// smbiosArguments pass texts as SMBIOS OEM strings: systemd-stub reads its own from them, and systemd its credentials.
func smbiosArguments(o Options) []string {
	var args []string
	add := func(text string) { args = append(args, "-smbios", "type=11,value="+escape(text)) }
	if o.KernelArguments != "" {
		add("io.systemd.stub.kernel-cmdline-extra=" + o.KernelArguments)
	}
	names := make([]string, 0, len(o.Credentials))
	for name := range o.Credentials {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		add("io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString([]byte(o.Credentials[name])))
	}
	return args
}

// escape protects a value in QEMU's option lists, where commas separate.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
