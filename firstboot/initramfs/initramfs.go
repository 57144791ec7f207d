// Package initramfs brings a node from the kernel to systemd. It runs as process 1 of the initramfs: it loads the
// modules that the machine needs, finds the root by its hash, opens it with dm-verity, makes or opens the
// state partition, lays the overlay over /etc and switches to systemd. What it saw and did is left in BootFile.
//
// Every failure says on the console which step failed, what was seen and what to do; then the machine restarts, or
// opens a shell if the kernel command line asks for one.
package initramfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/firstboot/initramfs/network"
	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// Systemd is the program that the initramfs becomes.
const Systemd = "/usr/lib/systemd/systemd"

// LoadFile lists, below the modules' directory, the modules that no device asks for, one a line. The builder writes it.
const LoadFile = "modules.load"

// Options change what a boot uses; the zero value is right on a node.
type Options struct {
	// Commands runs the programs of the root; default command.Exec.
	Commands command.Runner
	// Init is the program to become; default Systemd.
	Init string
}

// boot is one way from the kernel to the root's init.
type boot struct {
	commands command.Runner
	init     string
	sys      string
	console  console
	params   Params
	devices  blockDevices
	modules  *modules
	coldplug *coldplug
	// root is where the verified root will be read from.
	root opened
	// stateDisk is the name in /sys/block of the disk with the state partition.
	stateDisk string
	// blankState tells that this disk has no partition table yet, and nothing else either.
	blankState bool
	// cached tells that the root is in the cache of the state's disk.
	cached bool
	// network is how the network came up, when the root comes over it.
	network network.Result
	facts   Boot
}

func newBoot(o Options) *boot {
	b := &boot{commands: o.Commands, init: o.Init, sys: "/sys", devices: blockDevices{sys: "/sys", dev: "/dev"}}
	b.params = Params{Reboot: defaultReboot}
	if b.commands == nil {
		b.commands = command.Exec{}
	}
	if b.init == "" {
		b.init = Systemd
	}
	return b
}

// Main is the whole life of process 1 in the initramfs. It never returns: it becomes systemd, or explains why it could not and
// restarts the machine.
func Main() {
	b := newBoot(Options{})
	b.giveUp(guard(func() error { return b.run(context.Background()) }))
}

// Run boots and returns only if it could not; the error is a *StepError. For process 1 of an initramfs only.
func Run(ctx context.Context, o Options) error { return newBoot(o).run(ctx) }

// guard turns a panic of do into an error, because process 1 may not die.
func guard(do func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("a defect of kiln: %v\n%s", value, debug.Stack())
		}
	}()
	return do()
}

// prelude are the steps that tell which way to go.
func (b *boot) prelude() step.List {
	return step.List{
		{Name: "mounts", Does: "mount /proc, /sys, /dev and /run", Run: b.mounts},
		{Name: "command-line", Does: "read the kernel command line", Run: b.commandLine},
		{Name: "modules", Does: "load modules for the devices that are there", Run: b.loadModules},
	}
}

// steps are the way from there to systemd.
func (b *boot) steps() step.List {
	steps := step.List{{Name: "find-root", Does: "wait for the partitions of the root", Run: b.findRoot}}
	state := step.Step{Name: "state", Does: "make or open the state partition and mount it at /var", Run: b.openState}
	switch {
	case b.params.Root.overNetwork():
		steps = step.List{
			{Name: "network", Does: "bring up the network", Run: b.openNetwork},
			{Name: "fetch-root", Does: "fetch the root into memory and check it", Run: b.fetchRoot},
		}
		if !b.params.State.IsZero() {
			steps = append(step.List{{Name: "find-cache", Does: "look for the root on the disk for the state", Run: b.findCache}}, steps...)
		}
	case b.params.Root.kind == fromMedium:
		steps = step.List{{Name: "find-medium", Does: "wait for the medium with the root and mount it", Run: b.findMedium}}
	}
	if b.params.Root.live() {
		state = step.Step{Name: "state", Does: "mount /var in memory, or on the disk that the rule picks", Run: b.openLiveState}
	}
	return append(steps, step.List{
		{Name: "verity", Does: "open the root with dm-verity and mount system and payload", Run: b.mountRoot},
		state,
		{Name: "etc", Does: "lay an overlay on the state partition over /etc", Run: b.etc},
		{Name: "switch-root", Does: "leave the facts of this boot in " + BootFile + " and become systemd", Run: b.switchRoot},
	}...)
}

// run takes the steps, with one line on the console for each.
func (b *boot) run(ctx context.Context) error {
	if err := b.take(ctx, b.prelude()); err != nil {
		return err
	}
	if err := b.take(ctx, b.steps()); err != nil {
		return err
	}
	return errors.New("init returned")
}

func (b *boot) take(ctx context.Context, steps step.List) error {
	for _, s := range steps {
		at := uptime()
		note, err := s.Run(ctx)
		if err != nil {
			return &StepError{Step: s.Name, Err: err}
		}
		took := uptime() - at
		b.facts.Steps = append(b.facts.Steps, Timing{Name: s.Name, At: milliseconds(at), Seconds: milliseconds(took)})
		b.console.say("%-12s %6.3f s  %s", s.Name, took.Seconds(), note)
	}
	return nil
}

// milliseconds is d in seconds, with three decimals.
func milliseconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func (b *boot) mounts(context.Context) (string, error) {
	if err := mountSystem(); err != nil {
		// Without /dev there is only what the kernel opened for us.
		b.console = console{tty: os.Stderr}
		return "", err
	}
	b.console = openConsole()
	if err := standardStreams(); err != nil {
		b.console.complain("%s", err)
	}
	return fmt.Sprintf("kernel started %.3f s ago", uptime().Seconds()), nil
}

func (b *boot) commandLine(context.Context) (string, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", fmt.Errorf("reading the kernel command line: %w", err)
	}
	b.params, err = ParseCmdline(string(text))
	if !b.params.Panic {
		// A kernel that panics, as over a corrupted root, would otherwise stand still until somebody comes.
		_ = os.WriteFile("/proc/sys/kernel/panic", fmt.Appendf(nil, "%d\n", int(b.params.Reboot.Seconds())), 0)
	}
	if err != nil {
		return "", withHint(err, "correct the kernel command line in the boot loader, or boot the image's own UKI")
	}
	b.facts.RootHash, b.facts.Platform = hex.EncodeToString(b.params.RootHash), b.params.Platform
	return "root hash " + b.facts.RootHash[:16] + "…", nil
}

func (b *boot) loadModules(context.Context) (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("asking for the kernel's version: %w", err)
	}
	dir := filepath.Join(nodefs.Modules, unix.ByteSliceToString(name.Release[:]))
	var err error
	if b.modules, err = openModules(dir); err != nil {
		return "", err
	}
	b.coldplug = &coldplug{sys: b.sys, modules: b.modules, seen: map[string]bool{}}
	needed, err := os.ReadFile(filepath.Join(dir, LoadFile))
	if err != nil {
		return "", fmt.Errorf("reading the modules to load: %w", err)
	}
	// Filesystems before drivers: loading any module waits for drivers that look for their disks in the background.
	for _, name := range strings.Fields(string(needed)) {
		if err := b.modules.load(name); err != nil {
			return "", err
		}
	}
	b.coldplug.plug()
	return strings.Join(b.modules.names(), " "), nil
}

func (b *boot) mountRoot(context.Context) (string, error) {
	// From here on a damaged block stops the kernel, which leaves nobody to explain.
	b.console.say("verity: should the kernel stop with \"dm-verity device corrupted\", the root on %s is damaged: %s", b.root.where, b.root.remedy)
	device, err := openVerity(b.root.data, b.root.tree, b.params.RootHash)
	if err != nil {
		return "", err
	}
	parts, err := mountParts(device)
	if err != nil {
		return "", err
	}
	return "verified root is " + device + ", " + parts, checkInit(b.init)
}

func (b *boot) etc(context.Context) (string, error) {
	return "writable, kept in " + nodefs.EtcUpper, mountEtc()
}

func (b *boot) switchRoot(context.Context) (string, error) {
	b.facts.Modules = b.modules.names()
	if err := b.facts.write(BootFile); err != nil {
		return "", fmt.Errorf("writing %s: %w", BootFile, err)
	}
	if err := checkInit(b.init); err != nil {
		return "", err
	}
	b.console.say("switching to %s, %.3f s after the kernel started", b.init, uptime().Seconds())
	return "", switchRoot(b.init)
}
