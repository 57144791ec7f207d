package initramfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/containerd/go-dmverity/pkg/dm"
	"github.com/containerd/go-dmverity/pkg/utils"
	"github.com/containerd/go-dmverity/pkg/verity"
	"golang.org/x/sys/unix"
)

// verityName is the device-mapper name of the root.
const verityName = "root"

// openVerity opens the root with dm-verity and returns the path of its block device. The parameters come from the
// superblock at the start of the tree's partition; that cannot weaken anything, because all of them go into the hash.
//
// A block that does not match stops the kernel (panic_on_corruption): no program ever sees it, and a node that
// runs from a damaged disk does not linger half alive.
func openVerity(data, tree string, hash []byte) (string, error) {
	var params verity.Params
	if err := verity.InitParams(&params, data, tree); err != nil {
		return "", fmt.Errorf("reading the hash tree on %s: %w", tree, err)
	}
	if err := utils.ValidateRootHashSize(hash, params.HashName); err != nil {
		return "", fmt.Errorf("hash tree on %s: %w", tree, err)
	}
	if err := checkTop(tree, params, hash); err != nil {
		return "", err
	}
	target, err := dm.BuildTargetParams(dm.OpenArgs{
		Version: params.HashType, DataDevice: data, HashDevice: tree,
		DataBlockSize: params.DataBlockSize, HashBlockSize: params.HashBlockSize, DataBlocks: params.DataBlocks,
		HashName: params.HashName, RootDigest: hash, Salt: params.Salt, HashStartBytes: params.HashAreaOffset,
		Flags: []string{"panic_on_corruption"},
	})
	if err != nil {
		return "", fmt.Errorf("describing the hash tree on %s: %w", tree, err)
	}
	return activate(verityName, dm.Target{Length: params.DataBlocks * uint64(params.DataBlockSize/512), Type: "verity", Params: target})
}

// checkTop compares the tree's uppermost block, which follows the superblock, with the root hash. The kernel would do it as
// well, but by stopping; a tree of another image deserves a better message.
func checkTop(tree string, params verity.Params, hash []byte) error {
	file, err := os.Open(tree)
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, params.HashBlockSize)
	if _, err := file.ReadAt(block, int64(params.HashAreaOffset)); err != nil {
		return fmt.Errorf("reading the hash tree on %s: %w", tree, err)
	}
	// Salt first: hash type 1, the only one that kiln's builder writes.
	sum := sha256.Sum256(append(bytes.Clone(params.Salt), block...))
	if params.HashType != 1 || params.HashName != "sha256" || !bytes.Equal(sum[:], hash) {
		return withHint(fmt.Errorf("hash tree on %s: it does not match the root hash on the kernel command line", tree),
			"the disk holds a damaged image or parts of two; write the image to the disk again")
	}
	return nil
}

// activate makes the device-mapper device called name. The library's own verity.Open is not used: without udev it waits a second for a
// name in /dev/mapper that never comes.
func activate(name string, target dm.Target) (string, error) {
	control, err := dm.Open()
	if err != nil {
		return "", fmt.Errorf("opening the device mapper: %w", err)
	}
	defer control.Close()
	number, err := control.CreateDevice(name)
	if err != nil {
		return "", fmt.Errorf("creating device %s: %w", name, err)
	}
	if err := control.LoadTable(name, []dm.Target{target}); err != nil {
		_ = control.RemoveDevice(name)
		return "", fmt.Errorf("setting up device %s: %w", name, err)
	}
	if err := control.SuspendDevice(name, false); err != nil {
		_ = control.RemoveDevice(name)
		return "", fmt.Errorf("starting device %s: %w", name, err)
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(number)), nil
}
