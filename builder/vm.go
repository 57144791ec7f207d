package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/vm"
)

// vmFlags are what `kiln vm` was asked for.
type vmFlags struct {
	release, accel, firmware, identity, size, data, extra, wait string
	memory, cpus, port                                          int
	console, detach                                             bool
	timeout                                                     time.Duration
}

func newVM(env environment) *cobra.Command {
	var f vmFlags
	cmd := &cobra.Command{
		Use:     "vm DIR [--identity FILE]",
		GroupID: groupImages,
		Short:   "Boot a built image in a virtual machine",
		Long: `Boot the image in DIR, which kiln build -o DIR made, in QEMU with UEFI firmware
or a BIOS, and wait until the node is Ready. QEMU and the firmware come from a tools tree that
kiln makes once; the host needs neither, and no root.

The image is not changed: the machine's disk is an overlay. It is gone when the
machine is off, unless --data names a directory for it; there a second run goes on
where the first one stopped, after a power cut too (kill QEMU).

The machine reaches no network. From this host, 127.0.0.1 at --api-port leads to
the machine's API server. KVM is used where a short probe boot shows that it works;
otherwise instructions are emulated, and a control plane needs some minutes.`,
		Example: `  kiln identity new node-1 --address 10.0.2.15 --endpoint 10.0.2.15:6443 \
    --server https://127.0.0.1:6443 -o out/node-1
  kiln vm out/image --identity out/node-1/config.ign
  kiln vm out/image --identity out/node-1/config.ign --detach
  kubectl --kubeconfig out/node-1/admin.conf get nodes
  kiln vm stop out/image`,
		Args: operands("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return runVM(cmd, env, args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.identity, "identity", "", "Ignition config with the node's identity (kiln identity new), given by fw_cfg")
	flags.IntVar(&f.memory, "memory", vm.DefaultMemoryMiB, "memory in MiB")
	flags.IntVar(&f.cpus, "cpus", vm.DefaultCPUs, "number of processors")
	flags.StringVar(&f.accel, "accel", string(vm.Auto), "auto, kvm or tcg")
	flags.StringVar(&f.firmware, "firmware", string(vm.UEFI), "uefi, secure-boot (in setup mode: enrols the keys of a signed image) or bios")
	flags.StringVar(&f.size, "disk-size", "12GiB", "size of the machine's disk, if larger than the image")
	flags.IntVar(&f.port, "api-port", 6443, "port of 127.0.0.1 that leads to the machine's API server; 0 for none")
	flags.StringVar(&f.data, "data", "", "directory that keeps the machine's disk and logs")
	flags.StringVar(&f.extra, "append", "", "words added to the kernel command line")
	flags.BoolVar(&f.console, "console", false, "show the serial console instead of the steps")
	flags.BoolVar(&f.detach, "detach", false, "leave the machine running; stop it with kiln vm stop DIR")
	flags.StringVar(&f.wait, "wait", "ready", "what to wait for: ready or none")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Minute, "how long the node may take until it is Ready")
	releaseFlag(cmd, env, &f.release)
	_ = cmd.RegisterFlagCompletionFunc("accel", cobra.FixedCompletions([]string{"auto", "kvm", "tcg"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("firmware", cobra.FixedCompletions([]string{"uefi", "secure-boot", "bios"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{"ready", "none"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(newVMStop())
	return cmd
}

func runVM(cmd *cobra.Command, env environment, dir string, f vmFlags) error {
	o, want, err := f.options(dir)
	if err != nil {
		return err
	}
	r, _, err := readRelease(env, f.release)
	if err != nil {
		return err
	}
	w, err := newWorkshop(cmd, env, r)
	if err != nil {
		return err
	}
	tools, err := w.debian.VMTools(cmd.Context())
	if err != nil {
		return err
	}
	o.Tree = tools
	task := w.progress.Start("vm", "booting "+o.Disk)
	var why string
	probe := vm.Probe{Tree: tools, Host: o.Host, Disk: o.Disk, CacheDir: filepath.Dir(w.store.Dir)}
	if o.Accel, why, err = vm.ChooseAccel(cmd.Context(), want, probe); err != nil {
		task.Fail()
		return err
	}
	task.Say("%s: %s", o.Accel, why)
	if o.Dir, err = f.place(dir, filepath.Dir(w.store.Dir)); err != nil {
		task.Fail()
		return err
	}
	if f.console {
		o.Console = cmd.OutOrStdout()
	}
	if f.data == "" && !f.detach {
		defer parts.RemoveAll(o.Dir)
	}
	// control-C must not be a power cut: what ends the machine is decided below.
	machine, err := vm.Start(context.WithoutCancel(cmd.Context()), o)
	if err != nil {
		task.Fail()
		return err
	}
	task.Say("console log: %s", filepath.Join(o.Dir, "console.log"))
	node, took, err := f.await(cmd, machine)
	if err != nil {
		machine.Kill()
		task.Fail()
		return fmt.Errorf("%w\n%s", err, keepLog(f, o.Dir))
	}
	switch {
	case f.wait == "none":
		task.Done("")
	case node == "":
		task.Done("the node has booted before; its pods come back by themselves")
	default:
		task.Done("node " + node + " is Ready after " + vm.Clock(took))
	}
	if err := f.describe(cmd.OutOrStdout(), dir, machine); err != nil || f.detach {
		return err
	}
	return f.attend(cmd.Context(), machine, task.Say)
}

// place chooses the machine's directory. Only --data keeps a disk; what is gone with the machine lies in the cache, for
// /tmp is in memory on many hosts.
func (f vmFlags) place(image, cache string) (string, error) {
	switch {
	case f.data != "":
		return f.data, nil
	case f.detach:
		dir := detachedDir(image)
		if vm.IsRunning(dir) {
			return "", usagef("%s: its machine is running already; stop it with kiln vm stop %s", image, image)
		}
		return dir, clearMachine(dir)
	default:
		return os.MkdirTemp(cache, "machine-")
	}
}

// clearMachine removes an earlier machine's directory, and nothing else.
func clearMachine(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := vm.ReadState(dir); err != nil {
		return usagef("%s: is in the way and holds no machine; remove it, or name another directory with --data", dir)
	}
	return parts.RemoveAll(dir)
}

// await shows the way to Ready.
func (f vmFlags) await(cmd *cobra.Command, machine *vm.Running) (node string, took time.Duration, err error) {
	if f.wait == "none" {
		return "", 0, nil
	}
	out := cmd.ErrOrStderr()
	clear := ""
	watch := vm.Watch{Say: func(at time.Duration, text string) {
		if !f.console {
			fmt.Fprintf(out, "%s    %7s  %s\n", clear, vm.Clock(at), text)
		}
	}}
	if isTerminal(cmd) && !f.console {
		clear = "\r\033[K"
		watch.Status = func(at time.Duration, text string) {
			fmt.Fprintf(out, "%s    %7s  %.90s", clear, vm.Clock(at), text)
		}
	}
	begin := time.Now()
	node, err = machine.Console().Ready(cmd.Context(), f.timeout, watch)
	fmt.Fprint(out, clear)
	return node, time.Since(begin), err
}

// keepLog saves the console log of a machine whose directory goes away, and says where it is.
func keepLog(f vmFlags, dir string) string {
	log := filepath.Join(dir, "console.log")
	if f.data == "" && !f.detach {
		kept := dir + "-console.log"
		if err := os.Rename(log, kept); err == nil {
			log = kept
		}
	}
	return "the whole console is in " + log
}

// describe says what runs, how to look inside and how to stop it.
func (f vmFlags) describe(out io.Writer, dir string, machine *vm.Running) error {
	lines := []string{"machine\t" + machine.Dir, fmt.Sprintf("qemu\tprocess %d", machine.PID())}
	if f.port != 0 {
		lines = append(lines, fmt.Sprintf("api\thttps://127.0.0.1:%d", f.port))
	}
	if admin := filepath.Join(filepath.Dir(f.identity), "admin.conf"); f.identity != "" && f.port != 0 {
		if _, err := os.Stat(admin); err == nil {
			lines = append(lines, "look inside\tkubectl --kubeconfig "+admin+" get pods -A")
		}
	}
	if f.detach {
		target := dir
		if f.data != "" {
			target = f.data
		}
		lines = append(lines, "stop it\tkiln vm stop "+target)
	} else {
		lines = append(lines, "stop it\tcontrol-C")
	}
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// powerOffTime is how long a machine whose disk is kept may take to power off.
const powerOffTime = 90 * time.Second

// attend waits until the machine is off. Control-C presses the power button of a machine whose disk is kept, and ends
// any other at once.
func (f vmFlags) attend(ctx context.Context, machine *vm.Running, say func(string, ...any)) error {
	select {
	case <-machine.Done():
		say("the machine is off")
		return machine.Wait()
	case <-ctx.Done():
	}
	defer machine.Kill()
	if f.data == "" {
		return nil
	}
	say("powering off; control-C again pulls the plug")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), powerOffTime)
	defer cancel()
	return machine.Powerdown(ctx)
}
