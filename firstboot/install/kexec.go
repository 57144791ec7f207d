package install

import (
	"bytes"
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Kexec is the Loader of a machine with systemd.
type Kexec struct {
	Root   nodefs.Root
	Runner command.Runner
}

// Load implements Loader: with kexec_file_load(2), which checks signatures where the machine wants that.
func (k Kexec) Load(ctx context.Context, disk string, esp int) error {
	return withPartition(ctx, k.Root, mountPoint{disk: disk, number: esp, filesystem: "vfat"}, func(directory string) error {
		path, err := findUKI(directory)
		if err != nil {
			return err
		}
		image, err := readUKI(path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", strings.TrimPrefix(path, directory), err)
		}
		return image.load()
	})
}

// Leave implements Loader. systemd stops what runs and starts the kernel that is loaded.
func (k Kexec) Leave(ctx context.Context, how string) error {
	if _, err := k.Runner.Run(ctx, command.Command{Name: nodefs.Systemctl, Args: []string{"--no-block", how}}); err != nil {
		return fmt.Errorf("leaving the live system: %w", err)
	}
	return nil
}

// findUKI is the unified kernel image on an EFI system partition: the last by name, as the boot menu sorts them.
func findUKI(esp string) (string, error) {
	files, _ := filepath.Glob(filepath.Join(esp, "EFI/Linux/*.efi"))
	if len(files) == 0 {
		return "", errors.New("finding the kernel: there is none in EFI/Linux of the EFI system partition")
	}
	slices.Sort(files)
	return files[len(files)-1], nil
}

// uki is what a kernel is started with.
type uki struct {
	kernel, initramfs []byte
	commandLine       string
}

// readUKI takes a unified kernel image apart: a PE file with sections .linux, .initrd and .cmdline (UAPI group,
// specification 5).
func readUKI(path string) (uki, error) {
	var u uki
	file, err := pe.Open(path)
	if err != nil {
		return u, err
	}
	defer file.Close()
	parts := map[string][]byte{}
	for _, name := range []string{".linux", ".initrd", ".cmdline"} {
		section := file.Section(name)
		if section == nil {
			return u, fmt.Errorf("it has no section %s", name)
		}
		text, err := io.ReadAll(section.Open())
		if err != nil {
			return u, fmt.Errorf("section %s: %w", name, err)
		}
		// The file holds whole blocks; the virtual size is the section's own.
		if n := int(section.VirtualSize); n > 0 && n < len(text) {
			text = text[:n]
		}
		parts[name] = text
	}
	u.kernel, u.initramfs = parts[".linux"], parts[".initrd"]
	u.commandLine = string(bytes.TrimRight(parts[".cmdline"], "\x00\n "))
	return u, nil
}

// load hands the kernel over.
func (u uki) load() error {
	kernel, err := memoryFile("kernel", u.kernel)
	if err != nil {
		return err
	}
	defer kernel.Close()
	initramfs, err := memoryFile("initramfs", u.initramfs)
	if err != nil {
		return err
	}
	defer initramfs.Close()
	if err := unix.KexecFileLoad(int(kernel.Fd()), int(initramfs.Fd()), u.commandLine, 0); err != nil {
		return fmt.Errorf("handing it to the running kernel: %w", err)
	}
	return nil
}

// memoryFile is a file without a name.
func memoryFile(name string, text []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keeping the %s in memory: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.Write(text); err != nil {
		file.Close()
		return nil, fmt.Errorf("keeping the %s in memory: %w", name, err)
	}
	return file, nil
}
