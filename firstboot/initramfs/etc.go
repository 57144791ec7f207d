package initramfs

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// mountEtc lays an overlay over the root's /etc, so that what is written there is kept on the state partition.
func mountEtc() error {
	upper, work, etc := filepath.Join(sysroot, nodefs.EtcUpper), filepath.Join(sysroot, nodefs.EtcWork), filepath.Join(sysroot, "etc")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", etc, upper, work)
	if err := unix.Mount("overlay", etc, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting the overlay on /etc: %w", err)
	}
	return nil
}
