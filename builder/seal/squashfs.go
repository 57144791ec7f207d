// Package seal makes a root filesystem read-only and verified: squashfs, the dm-verity tree over it, the initramfs that
// opens it, and the unified kernel image whose command line carries the root hash.
package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/kiln-os/kiln/builder/rootfs"
	"github.com/kiln-os/kiln/internal/command"
)

// Squashfs packs trees with mksquashfs from the tools tree. The same input gives the same bytes.
type Squashfs struct {
	Run   command.Runner
	Tools rootfs.Tools
	// Level is the zstd level, 1 to 22.
	Level int
	// Epoch is the filesystem's time and every file's.
	Epoch time.Time
}

func (s Squashfs) options() []string {
	epoch := strconv.FormatInt(s.Epoch.Unix(), 10)
	return []string{
		"-noappend", "-no-progress", "-quiet", "-comp", "zstd", "-Xcompression-level", strconv.Itoa(s.Level), "-b", "256K",
		"-mkfs-time", epoch, "-all-time", epoch, "-no-exports",
		// A tar's own entry for the root is not looked at: without these it would be the builder's, open to all.
		"-root-mode", "0755", "-root-uid", "0", "-root-gid", "0",
	}
}

// PackTar packs the tar that write produces into the file out. Owners, modes and extended attributes are the tar's.
func (s Squashfs) PackTar(ctx context.Context, out string, write func(io.Writer) error) error {
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(writer)
		written <- errors.Join(err, writer.CloseWithError(err))
	}()
	cmd := s.Tools.Command("mksquashfs", append([]string{"-", out, "-tar"}, s.options()...)...)
	cmd.Stdin, cmd.Stdout = reader, io.Discard
	_, err := s.Run.Run(ctx, cmd)
	// Closing the reader ends the writer when mksquashfs ended first.
	err = errors.Join(err, reader.CloseWithError(io.ErrClosedPipe))
	if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		err = errors.Join(writeErr, err)
	}
	if err != nil {
		return fmt.Errorf("packing %s: %w", out, err)
	}
	return nil
}

// PackDir packs a directory of programs and layers into the file out. Every file is owned by root. Its mode follows from
// its name alone, since the host's depends on the umask and on whether the file is a link into the cache: files whose
// name ends in .erofs are 0644, and are stored as they are, already compressed; all others are programs, 0755.
func (s Squashfs) PackDir(ctx context.Context, out, dir string) error {
	args := append([]string{dir, out}, s.options()...)
	args = append(args, "-all-root", "-no-xattrs", "-root-mode", "0755", "-action", "chmod(0755)@type(d)",
		"-action", "chmod(0755)@type(f)&&!name(*.erofs)", "-action", "chmod(0644)@name(*.erofs)", "-action", "uncompressed@name(*.erofs)")
	cmd := s.Tools.Command("mksquashfs", args...)
	cmd.Stdout = io.Discard
	if _, err := s.Run.Run(ctx, cmd); err != nil {
		return fmt.Errorf("packing %s: %w", out, err)
	}
	return nil
}

// PayloadAlign is the boundary on which the payload's squashfs begins, behind the system's in the same partition.
// firstboot finds it there: it computes the same from the system's superblock.
const PayloadAlign = 1 << 20

// Join writes the root partition's content: the system's squashfs, zeros up to PayloadAlign, the payload's squashfs,
// zeros up to a whole 4 KiB block. Two filesystems under one hash: a change of the system leaves the payload, which is
// most of the bytes, as it was.
func Join(out, system, payload string) error {
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	used, err := BytesUsed(system)
	if err != nil {
		return err
	}
	if err := copyAt(file, 0, system, used); err != nil {
		return err
	}
	size, err := BytesUsed(payload)
	if err != nil {
		return err
	}
	start := align(used, PayloadAlign)
	if err := copyAt(file, start, payload, size); err != nil {
		return err
	}
	if err := file.Truncate(align(start+size, VerityBlock)); err != nil {
		return err
	}
	return file.Close()
}

// BytesUsed reads a squashfs file's own size from its superblock (bytes_used, offset 40, little-endian).
func BytesUsed(path string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	var super [48]byte
	if _, err := io.ReadFull(file, super[:]); err != nil || string(super[:4]) != "hsqs" {
		return 0, fmt.Errorf("%s is not a squashfs", path)
	}
	return int64(binary.LittleEndian.Uint64(super[40:])), nil
}

func copyAt(out *os.File, offset int64, path string, size int64) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := out.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	// Without a LimitReader in between, so that the kernel copies (copy_file_range).
	n, err := io.Copy(out, in)
	if err == nil && n < size {
		err = fmt.Errorf("%s is shorter than its superblock says", path)
	}
	return err
}

func align(n, boundary int64) int64 { return (n + boundary - 1) / boundary * boundary }
