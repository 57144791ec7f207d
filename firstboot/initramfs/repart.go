package initramfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Programs of the root that make and check the state partition.
const (
	repartProgram = "/usr/bin/systemd-repart"
	fsckProgram   = "/usr/sbin/e2fsck"
)

// inRoot is a command that runs a program of the verified root with the root as its own.
func inRoot(program string, args ...string) command.Command {
	return command.Command{
		Name: program, Args: args, Chroot: sysroot, Dir: "/", CleanEnv: true,
		// The root is read-only: /run is the only place to write.
		Env: []string{"PATH=/usr/sbin:/usr/bin", "TMPDIR=/run", "SYSTEMD_LOG_TARGET=console", "SYSTEMD_COLORS=0"},
	}
}

// repartition says what systemd-repart does: add the partitions of the definitions' directory to a disk, or grow them. Blank
// says that the disk has no table yet: one is made then. Otherwise a disk without one is refused.
type repartition struct {
	disk, definitions string
	blank             bool
}

// repart has systemd-repart add the state partition to a disk, or grow it. It makes the filesystem first, through a loop device
// over the free space, and writes the partition table last and backup first: a power cut leaves a disk
// without the partition, or with a whole one.
func repart(ctx context.Context, runner command.Runner, r repartition) error {
	return withBinds(func() error {
		_, err := runner.Run(ctx, inRoot(repartProgram, r.arguments()...))
		return err
	})
}

func (r repartition) arguments() []string {
	empty := "refuse"
	if r.blank {
		empty = "require"
	}
	return []string{
		"--dry-run=no", "--empty=" + empty, "--definitions=" + r.definitions,
		// Without udev there is nobody to wait for, and without a machine ID nothing to derive UUIDs from.
		"--offline=no", "--seed=random", "--no-pager", "--json=off",
		// It would discard the gaps between partitions, too, and in the first one lies what an installer has written down.
		"--discard=no", r.disk,
	}
}

var (
	minimumPattern = regexp.MustCompile(`(?m)^\s*SizeMinBytes\s*=\s*([0-9]+)([KMGT]?)\s*$`)
	labelPattern   = regexp.MustCompile(`(?m)^\s*Label\s*=\s*(\S+)\s*$`)
)

// stateMinimum reads from the root's definitions how many bytes the state partition needs at least.
func stateMinimum(dir string) (int64, error) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		if label := labelPattern.FindSubmatch(text); label == nil || string(label[1]) != nodefs.LabelState {
			continue
		}
		return parseMinimum(text)
	}
	return 0, fmt.Errorf("reading the definition of the state partition: no file in %s has Label=%s", dir, nodefs.LabelState)
}

// parseMinimum reads SizeMinBytes of a definition; without one the partition may be of any size.
func parseMinimum(text []byte) (int64, error) {
	match := minimumPattern.FindSubmatch(text)
	if match == nil {
		return 0, nil
	}
	unit := map[string]int64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[string(match[2])]
	n, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, errors.New("reading the definition of the state partition: SizeMinBytes is too large")
	}
	return n * unit, nil
}
