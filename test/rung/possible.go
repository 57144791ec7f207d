package rung

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
)

// programs are those of the host that this package runs.
var programs = []string{"unshare", "nsenter", "ip", "mount", "umount", "pivot_root"}

// modules are what nodes use of the kernel, where it does not come built in: a node cannot load them.
var modules = []string{"squashfs", "erofs", "overlay", "loop", "veth", "bridge", "br_netfilter", "dummy", "vxlan", "nf_conntrack", "nf_tables"}

// Possible says what this machine lacks to boot nodes, all of it at once; nil when it lacks nothing that can be told
// beforehand. As root it first asks for the kernel's modules.
func Possible() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("root (for namespaces and mounts)"))
	} else if command.Find("modprobe") != "" {
		// What is missing then, the checks below or the first use say.
		_, _ = (command.Exec{}).Run(context.Background(), command.Command{Name: "modprobe", Args: append([]string{"--all", "--quiet"}, modules...), Stderr: io.Discard})
	}
	for _, name := range programs {
		if command.Find(name) == "" {
			errs = append(errs, fmt.Errorf("the program %s", name))
		}
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		errs = append(errs, err)
	}
	for _, kind := range []string{"squashfs", "overlay", "erofs"} {
		if !strings.Contains(string(known), "\t"+kind+"\n") {
			errs = append(errs, fmt.Errorf("the filesystem %s in the kernel (modprobe %s)", kind, kind))
		}
	}
	if err := unix.Access("/dev/loop-control", unix.W_OK); err != nil {
		errs = append(errs, errors.New("loop devices (/dev/loop-control)"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("this machine cannot boot nodes; it lacks: %w", errors.Join(errs...))
	}
	return nil
}
