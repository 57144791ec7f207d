package initramfs

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkInit tells whether program can be started once the new root is the root. Nothing can be taken back later.
func checkInit(program string) error {
	info, err := os.Stat(filepath.Join(sysroot, program))
	if err != nil {
		return fmt.Errorf("looking for %s in the root: %w", program, err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s in the root: not an executable file", program)
	}
	return nil
}

// switchRoot makes /sysroot the root, frees the memory of the initramfs, and becomes program. It returns only
// with an error; after the first move nothing but a restart helps. u-root's SwitchRoot does the same, but prints each of
// its moves and passes no environment.
func switchRoot(program string) error {
	old, err := os.OpenRoot("/")
	if err != nil {
		return fmt.Errorf("opening the initramfs: %w", err)
	}
	for _, m := range systemMounts() {
		target := filepath.Join(sysroot, m.target)
		if err := unix.Mount(m.target, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s to %s: %w", m.target, target, err)
		}
	}
	if err := unix.Chdir(sysroot); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the root to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("entering the root: %w", err)
	}
	empty(old)
	return fmt.Errorf("starting %s: %w", program, unix.Exec(program, []string{program}, []string{"PATH=/usr/sbin:/usr/bin"}))
}

// empty deletes what is in the initramfs. All mounts were moved away from it; should one be left, it is not entered.
func empty(old *os.Root) {
	defer old.Close()
	dir, err := old.Open(".")
	if err != nil {
		return
	}
	defer dir.Close()
	var own, other unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &own) != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if unix.Fstatat(int(dir.Fd()), name, &other, unix.AT_SYMLINK_NOFOLLOW) == nil && other.Dev == own.Dev {
			_ = old.RemoveAll(name)
		}
	}
}
