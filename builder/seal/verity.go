package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/containerd/go-dmverity/pkg/verity"
)

// VerityBlock is the size of a data block and of a hash block, in bytes.
const VerityBlock = 4096

// Verity writes the dm-verity superblock and hash tree of the file data to the file out and returns the root hash in
// hex. Salt and UUID come from seed, so that the same input gives the same bytes: the salt's purpose, to make a tree
// unlike any other's, needs it to differ between images, not to be secret.
func Verity(data, out, seed string) (string, error) {
	info, err := os.Stat(data)
	if err != nil {
		return "", err
	}
	if info.Size()%VerityBlock != 0 {
		return "", fmt.Errorf("hashing %s: its size %d is not a multiple of %d", data, info.Size(), VerityBlock)
	}
	salt, id := sha256.Sum256([]byte("salt:"+seed)), sha256.Sum256([]byte("uuid:"+seed))
	params := verity.DefaultParams()
	params.HashName, params.HashType = "sha256", 1
	params.DataBlockSize, params.HashBlockSize = VerityBlock, VerityBlock
	params.DataBlocks = uint64(info.Size() / VerityBlock)
	params.HashAreaOffset = VerityBlock // the superblock takes the first block
	params.Salt, params.SaltSize = salt[:], uint16(len(salt))
	copy(params.UUID[:], id[:16])
	if err := os.WriteFile(out, nil, 0o644); err != nil {
		return "", err
	}
	root, err := verity.Create(&params, data, out)
	if err != nil {
		return "", fmt.Errorf("hashing %s: %w", data, err)
	}
	return hex.EncodeToString(root), nil
}
