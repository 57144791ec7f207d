package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// prepareFiles makes what a machine needs in its directory before QEMU starts.
func prepareFiles(ctx context.Context, o Options) error {
	if err := keepOldLog(o.Dir); err != nil {
		return fmt.Errorf("keeping the last boot's console log: %w", err)
	}
	if err := prepareVariables(o); err != nil {
		return err
	}
	if o.Disk == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(o.Dir, fileDisk)); err == nil {
		return sameImage(o)
	}
	return makeOverlay(ctx, o)
}

// makeOverlay makes the machine's disk: a qcow2 file that holds only what differs from the image.
func makeOverlay(ctx context.Context, o Options) error {
	info, err := os.Stat(o.Disk)
	if err != nil {
		return fmt.Errorf("making the machine's disk: %w", err)
	}
	// The name appears only when the file is whole: an interrupted start is repeated from the beginning.
	disk, fresh := filepath.Join(o.Dir, fileDisk), filepath.Join(o.Dir, "new-"+fileDisk)
	args := []string{"create", "-q", "-f", "qcow2", "-F", formatOf(o.Disk), "-b", o.Disk, fresh}
	if size := max(o.DiskSize, info.Size()); formatOf(o.Disk) == "raw" || o.DiskSize > 0 {
		args = append(args, strconv.FormatInt(size, 10))
	}
	if _, err := o.Host.Run(ctx, o.Tree.Command("qemu-img", args...)); err != nil {
		return fmt.Errorf("making the machine's disk: %w", err)
	}
	if err := writeState(o, 0); err != nil {
		return err
	}
	return os.Rename(fresh, disk)
}

func formatOf(disk string) string {
	if strings.HasSuffix(disk, ".qcow2") {
		return "qcow2"
	}
	return "raw"
}

// sameImage refuses an overlay that was made over another image: the mixture would be neither.
func sameImage(o Options) error {
	was, err := ReadState(o.Dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(o.Disk)
	if err != nil {
		return err
	}
	if was.Disk != o.Disk || was.Size != info.Size() || !was.Modified.Equal(info.ModTime()) {
		return fmt.Errorf("%s: the disk in it belongs to another build of the image; delete the directory or use another one", o.Dir)
	}
	return nil
}

// keepOldLog renames the console log of the boot before, so that each boot's log is kept.
func keepOldLog(dir string) error {
	log := filepath.Join(dir, fileConsole)
	if _, err := os.Stat(log); err != nil {
		return nil
	}
	for n := 1; ; n++ {
		old := filepath.Join(dir, fmt.Sprintf("console-%d.log", n))
		if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(log, old)
		}
	}
}

func writeState(o Options, pid int) error {
	state := State{PID: pid, Started: time.Now(), APIPort: o.APIPort, Disk: o.Disk}
	if info, err := os.Stat(o.Disk); err == nil {
		state.Size, state.Modified = info.Size(), info.ModTime()
	}
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.Dir, fileState), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("noting the machine's state: %w", err)
	}
	return nil
}

// ReadState reads what a machine's directory says about the machine.
func ReadState(dir string) (State, error) {
	var state State
	text, err := os.ReadFile(filepath.Join(dir, fileState))
	if err != nil {
		return state, fmt.Errorf("reading the machine's state: %w", err)
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return state, fmt.Errorf("reading %s: %w", filepath.Join(dir, fileState), err)
	}
	return state, nil
}
