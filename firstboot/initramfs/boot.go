package initramfs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// BootFile is where the initramfs leaves what it knows for firstboot.service.
const BootFile = nodefs.BootFacts

// Boot is what the initramfs found and did.
type Boot struct {
	// RootHash is the root hash of the verified root, 64 hexadecimal digits.
	RootHash string `json:"rootHash"`
	// Platform is the value of kiln.platform on the kernel command line.
	Platform string `json:"platform,omitempty"`
	// RootDevice and RootLabel are the partition with the root's data, as in /dev/vda2 and root-a.
	RootDevice string `json:"rootDevice"`
	RootLabel  string `json:"rootLabel"`
	// StateDevice is the partition mounted at /var; empty when that is in memory.
	StateDevice string `json:"stateDevice,omitempty"`
	// StateCreated tells that this boot made the state partition: it is the first of this node.
	StateCreated bool `json:"stateCreated"`
	// StateGrown tells that this boot made the state partition larger.
	StateGrown bool `json:"stateGrown,omitempty"`
	// Live is set when the root is on none of the machine's disks.
	Live *Live `json:"live,omitempty"`
	// Modules are the kernel modules that were loaded, in order.
	Modules []string `json:"modules"`
	// Steps are the steps that had ended when this was written.
	Steps []Timing `json:"steps"`
}

// Live tells where the root of a live node came from, and where its state is.
type Live struct {
	// Source is the URL of root.img, or the directory where the medium is mounted.
	Source string `json:"source"`
	// Device is the medium's block device.
	Device string `json:"device,omitempty"`
	// Files is the directory with root.img and root.verity as this node reads them: in memory, or on the medium.
	Files string `json:"files"`
	// State is memory, or the device of the state partition.
	State string `json:"state"`
}

// Timing is how long a step took.
type Timing struct {
	Name string `json:"name"`
	// At is when the step began, in seconds since the kernel started.
	At float64 `json:"at"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
}

// ReadBoot reads what the initramfs left behind at path.
func ReadBoot(path string) (Boot, error) {
	var boot Boot
	text, err := os.ReadFile(path)
	if err != nil {
		return boot, fmt.Errorf("reading what the initramfs found: %w", err)
	}
	if err := json.Unmarshal(text, &boot); err != nil {
		return boot, fmt.Errorf("reading what the initramfs found: %s: %w", path, err)
	}
	return boot, nil
}

// write leaves boot at path.
func (b Boot) write(path string) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
