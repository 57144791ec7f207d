package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// milestones are lines of the console, in the order in which they come.
var milestones = []struct {
	name string
	line *regexp.Regexp
}{
	{"kernel up, /init runs", regexp.MustCompile(`kiln: mounts `)},
	{"systemd", regexp.MustCompile(`kiln: switching to `)},
	{"firstboot has its identity", regexp.MustCompile(`^identity: `)},
	{"container images ready", regexp.MustCompile(`^container-images: all `)},
	{"kubeadm begins", regexp.MustCompile(`^kubeadm-init: \[init\]`)},
	{"kubeadm done", regexp.MustCompile(`^kubeadm-init: cluster `)},
	{"node Ready", regexp.MustCompile(`^ready: \S+ is Ready`)},
}

// benchBoot boots the image once and tells when each milestone was on the console, from power-on.
func benchBoot(ctx context.Context, t *table) error {
	if _, err := build(ctx, "vm-disk", "", "out/bench"); err != nil {
		return err
	}
	identity, err := benchIdentity(ctx)
	if err != nil {
		return err
	}
	tools, _, err := kiln(ctx, "cache", "tools", "vm")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "kiln-bench-vm-")
	if err != nil {
		return err
	}
	defer parts.RemoveAll(dir)
	start := time.Now()
	machine, err := vm.Start(ctx, vm.Options{
		Tree: rootfs.Tools{Dir: tools}, Host: command.Exec{}, Dir: dir, Disk: filepath.Join("out/bench", "disk.raw"), DiskSize: 12 << 30, Ignition: identity,
	})
	if err != nil {
		return err
	}
	defer machine.Kill()
	t.row("from power-on (emulated, 2 processors)", "s")
	for _, m := range milestones {
		if _, err := machine.Console().WaitFor(ctx, m.line, 25*time.Minute); err != nil {
			return err
		}
		t.row(m.name, fmt.Sprintf("%.1f", time.Since(start).Seconds()))
	}
	return nil
}
