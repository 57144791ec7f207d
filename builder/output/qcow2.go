package output

import (
	"context"
	"fmt"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// QCOW2 makes a qcow2 of a raw disk by QEMU's own program: it writes the same bytes every time, which it does in no other
// format.
type QCOW2 struct {
	Run   command.Runner
	Tools rootfs.Tools
}

// Convert writes the file out.
func (q QCOW2) Convert(ctx context.Context, raw, out string) error {
	convert := q.Tools.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1", "-t", "unsafe", raw, out)
	if _, err := q.Run.Run(ctx, convert); err != nil {
		return fmt.Errorf("converting the disk to qcow2: %w", err)
	}
	return nil
}
