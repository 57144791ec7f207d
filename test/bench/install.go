package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kiln-os/kiln/firstboot/install"
	"github.com/kiln-os/kiln/internal/command"
)

const (
	// installBytes is about a root with its payload.
	installBytes = 384 << 20
	// installRounds is how often each writes, in turns: the medians are compared.
	installRounds = 5
)

// benchInstall compares the installer's writer with dd. Both write a file that is there already, and wait until the bytes are
// on the medium.
func benchInstall(ctx context.Context, t *table) error {
	dir, err := os.MkdirTemp("out", "bench-install-")
	if errors.Is(err, os.ErrNotExist) {
		if err = os.Mkdir("out", 0o755); err == nil {
			dir, err = os.MkdirTemp("out", "bench-install-")
		}
	}
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	source, disk := filepath.Join(dir, "root.img"), filepath.Join(dir, "disk.raw")
	if err := noise(source); err != nil {
		return err
	}
	// Blocks that were written before are what a disk has.
	dd := command.Command{Name: "dd", Args: []string{"if=" + source, "of=" + disk, "bs=4M", "conv=fsync,notrunc", "status=none"}}
	if _, err := (command.Exec{}).Run(ctx, dd); err != nil {
		return err
	}
	var theirs, ours []time.Duration
	for range installRounds {
		usage, err := command.Exec{}.Run(ctx, dd)
		if err != nil {
			return err
		}
		took, err := writeLikeInstaller(ctx, source, disk)
		if err != nil {
			return err
		}
		theirs, ours = append(theirs, usage.Wall), append(ours, took)
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	them, us := theirs[installRounds/2], ours[installRounds/2]
	t.row("dd bs=4M conv=fsync", mib(installBytes), perSecond(them))
	t.row("installer", mib(installBytes), perSecond(us))
	t.row("installer against dd", fmt.Sprintf("%.2f x", them.Seconds()/us.Seconds()), "aim 0.8 x")
	return nil
}

func perSecond(took time.Duration) string {
	return fmt.Sprintf("%.0f MiB/s", installBytes/(1<<20)/took.Seconds())
}

// noise fills a file with bytes that nothing can make smaller.
func noise(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.CopyN(file, rand.Reader, installBytes); err != nil {
		return err
	}
	return file.Sync()
}

// writeLikeInstaller is one write as the installer does it.
func writeLikeInstaller(ctx context.Context, source, disk string) (time.Duration, error) {
	start := time.Now()
	file, err := os.Open(source)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	target, err := install.Open(disk, true)
	if err != nil {
		return 0, err
	}
	stream := install.Stream{Name: source, Reader: file, Size: installBytes, Progress: func(int64) {}}
	err = errors.Join(stream.Copy(ctx, target), target.Close())
	return time.Since(start), err
}
