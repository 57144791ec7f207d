package rung

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
)

// programs are those of the host that this package runs.
var programs = []string{"unshare", "nsenter", "ip", "mount", "umount", "pivot_root", "losetup"}

// Possible says what this machine lacks to boot nodes, all of it at once; nil when it lacks nothing that can be told
// beforehand.
func Possible() error {
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("root (for namespaces and mounts)"))
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
