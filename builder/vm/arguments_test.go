package vm

import (
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/command"
)

// fakeTree is a tree whose programs are named and never run.
type fakeTree string

func (f fakeTree) Path(elem ...string) string {
	return filepath.Join(append([]string{string(f)}, elem...)...)
}

func (f fakeTree) Command(name string, args ...string) command.Command {
	return command.Command{Name: f.Path("usr/bin", name), Args: args}
}

// after lists the values that follow flag in args.
func after(args []string, flag string) []string {
	var values []string
	for i := range len(args) - 1 {
		if args[i] == flag {
			values = append(values, args[i+1])
		}
	}
	return values
}

func TestArgumentsOfAWholeMachine(t *testing.T) {
	args := Arguments(Options{
		Tree: fakeTree("/t"), Dir: "/vm/a,b", Disk: "/img/disk.raw", MemoryMiB: 4096, CPUs: 2, Accel: TCG,
		Ignition: "/id/x,y.ign", APIPort: 16443, ExtraDisks: []string{"/d/check.img"}, DataDisks: []string{"/d/data.img"}, NoReboot: true,
		KernelArguments: "console=ttyS0,115200 systemd.wants=kiln-check.service",
		Credentials:     map[string]string{"systemd.extra-unit.kiln-check.service": "[Unit]\n"},
	})
	for flag, want := range map[string][]string{
		"-machine": {"q35"},
		"-accel":   {"tcg,thread=multi"},
		"-cpu":     {"max"},
		"-m":       {"4096"},
		"-smp":     {"2"},
		"-rtc":     {"base=utc"},
		"-netdev":  {"user,id=net0,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:16443-10.0.2.15:6443"},
		"-fw_cfg":  {"name=opt/com.coreos/config,file=/id/x,,y.ign"},
		"-smbios": {
			"type=11,value=io.systemd.stub.kernel-cmdline-extra=console=ttyS0,,115200 systemd.wants=kiln-check.service",
			"type=11,value=io.systemd.credential.binary:systemd.extra-unit.kiln-check.service=" + base64.StdEncoding.EncodeToString([]byte("[Unit]\n")),
		},
		"-drive": {
			"if=pflash,unit=0,format=raw,readonly=on,file=/t/usr/share/OVMF/OVMF_CODE_4M.fd",
			"if=pflash,unit=1,format=raw,file=/vm/a,,b/firmware-vars.fd",
			"if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file=/vm/a,,b/disk.qcow2",
			"if=none,id=extra0,format=raw,readonly=on,file=/d/check.img",
			"if=none,id=data0,format=raw,cache=unsafe,discard=unmap,file=/d/data.img",
		},
	} {
		if got := after(args, flag); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", flag, got, want)
		}
	}
	if !slices.Contains(args, "-no-reboot") {
		t.Error("no -no-reboot")
	}
}

func TestArgumentsWithoutAPortForwardNothing(t *testing.T) {
	args := Arguments(Options{Tree: fakeTree("/t"), Dir: "/w", Kernel: "/k", Append: "console=ttyS0", Accel: KVM})
	if got := after(args, "-netdev"); !slices.Equal(got, []string{"user,id=net0,restrict=on,ipv6=off"}) {
		t.Errorf("-netdev is %q", got)
	}
	if len(after(args, "-drive")) != 0 {
		t.Errorf("a machine that boots a kernel has drives: %q", args)
	}
	if got := after(args, "-cpu"); !slices.Equal(got, []string{"host"}) {
		t.Errorf("-cpu is %q under KVM", got)
	}
}

// A machine on a cable boots from the network before its target disk, every time.
func TestArgumentsOfAMachineOnACable(t *testing.T) {
	o := Options{Tree: fakeTree("/t"), Dir: "/w", Cable: Cable{Tap: "tap0", MAC: "52:54:00:00:00:01", HTTP: true}, Target: "/d/t,1.raw"}
	args := Arguments(o)
	if got := after(args, "-netdev"); !slices.Equal(got, []string{"tap,id=net0,script=no,downscript=no,ifname=tap0"}) {
		t.Errorf("-netdev is %q", got)
	}
	devices := after(args, "-device")
	for _, want := range []string{"virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,bootindex=3,romfile=", "virtio-blk-pci,drive=target,serial=target,bootindex=4"} {
		if !slices.Contains(devices, want) {
			t.Errorf("no -device %s in %q", want, devices)
		}
	}
	if got := after(args, "-fw_cfg"); len(got) != 2 {
		t.Errorf("-fw_cfg is %q; want neither IPv6 nor PXE", got)
	}
	o.Firmware, o.Cable.HTTP = BIOS, false
	args = Arguments(o)
	if got := after(args, "-fw_cfg"); len(got) != 0 || !slices.Contains(after(args, "-device"), "virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,bootindex=3") {
		t.Errorf("by a BIOS: %q", args)
	}
}

func TestOptionsSayEverythingThatIsMissing(t *testing.T) {
	_, err := Options{Disk: "/no/disk.raw", Ignition: "/no/config.ign"}.complete()
	if err == nil {
		t.Fatal("a machine of nothing is taken")
	}
	for _, want := range []string{"/no/disk.raw", "/no/config.ign", "want a directory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not mention %q", err, want)
		}
	}
}
