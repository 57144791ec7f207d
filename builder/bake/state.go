package bake

import (
	"fmt"

	"github.com/kiln-os/kiln/builder/plan"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// stateDefinition is the repart.d file of the state partition: the initramfs runs systemd-repart with it as the only
// definition, so that partitions of other types are left alone, and refuses a disk that has less room than SizeMinBytes
// before anything is written.
func stateDefinition(minimum document.Size) []byte {
	return fmt.Appendf(nil, `# The state partition, mounted at /var: made on the first boot, grown when the disk has grown.
[Partition]
Type=%s
Label=%s
Format=ext4
SizeMinBytes=%dK
`, plan.TypeState, nodefs.LabelState, minimum/document.KiB)
}
