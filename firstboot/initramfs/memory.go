package initramfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// What a node needs besides the root that lies in its memory: its programs, and what they write when that lies there, too.
const (
	memoryForPrograms = 512 << 20
	memoryForState    = 512 << 20
)

// availableMemory reads from the text of /proc/meminfo how many bytes can be used.
func availableMemory(meminfo string) (int64, error) {
	for line := range strings.Lines(meminfo) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemAvailable:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("reading how much memory there is: /proc/meminfo has no MemAvailable")
}

// checkMemory refuses a root that would leave too little memory to work in.
func (b *boot) checkMemory(root int64) error {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("reading how much memory there is: %w", err)
	}
	have, err := availableMemory(string(text))
	if err != nil {
		return err
	}
	return enoughMemory(root, have, b.params.State.IsZero())
}

// enoughMemory compares in bytes what a root needs with what there is.
func enoughMemory(root, have int64, stateInMemory bool) error {
	need, what := root+memoryForPrograms, fmt.Sprintf("%s for the root and %s to work in", document.Size(root), document.Size(memoryForPrograms))
	hint := fmt.Sprintf("give the machine more memory, or install the image to a disk and boot that (without %s)", nodefs.ParamRoot)
	if stateInMemory {
		need += memoryForState
		what += fmt.Sprintf(", and %s for /var", document.Size(memoryForState))
		hint = fmt.Sprintf("give the machine more memory, or its state a disk with %s=RULE", nodefs.ParamState)
	}
	if have >= need {
		return nil
	}
	return withHint(fmt.Errorf("the root does not fit into memory: %s are needed (%s), %s are free", document.Size(need), what, document.Size(have)), hint)
}

// mountMemory mounts a tmpfs of at most size bytes.
func mountMemory(target string, size int64) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("mode=0755,size=%d", size)); err != nil {
		return fmt.Errorf("mounting a tmpfs of %s at %s: %w", document.Size(size), target, err)
	}
	return nil
}
