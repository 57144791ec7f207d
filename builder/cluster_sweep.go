package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/kiln-os/kiln/builder/enrol"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// sweep removes the files of nodes and pools that are no longer in the definition, and pieces that killed runs left. It
// leaves alone what kiln has not made.
func (d *clusterDir) sweep(members []enrol.Member) error {
	keep := map[string]bool{}
	for _, member := range members {
		keep[member.Dir] = true
		for _, link := range member.Links {
			keep[link] = true
		}
	}
	if err := d.sweepPieces(".", secretsFile, adminFile, readmeFile, ignoreFile); err != nil {
		return err
	}
	for _, parent := range []string{enrol.NodesDir, enrol.PoolsDir} {
		if err := d.sweepMembers(parent, keep); err != nil {
			return err
		}
	}
	for _, parent := range enrol.LinkDirs() {
		if err := d.sweepLinks(parent, keep); err != nil {
			return err
		}
	}
	return nil
}

func (d *clusterDir) sweepMembers(parent string, keep map[string]bool) error {
	names, err := d.list(parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(parent, name)
		if err := d.sweepPieces(dir, nodefs.IdentityFile, nodefs.IgnitionFile); err != nil {
			return err
		}
		if keep[dir] {
			continue
		}
		for _, file := range []string{nodefs.IdentityFile, nodefs.IgnitionFile} {
			if err := d.remove(filepath.Join(dir, file)); err != nil {
				return err
			}
		}
		// Somebody else's file keeps the directory.
		_ = os.Remove(filepath.Join(d.path, dir))
	}
	return nil
}

func (d *clusterDir) sweepLinks(parent string, keep map[string]bool) error {
	names, err := d.list(parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		link := filepath.Join(parent, name)
		if target, err := os.Readlink(filepath.Join(d.path, link)); err != nil || keep[link] || !strings.HasPrefix(target, "../"+enrol.NodesDir+"/") {
			continue
		}
		if err := d.remove(link); err != nil {
			return err
		}
	}
	// It goes only when it is empty.
	_ = os.Remove(filepath.Join(d.path, parent))
	return nil
}

func (d *clusterDir) sweepPieces(dir string, files ...string) error {
	names, err := d.list(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		for _, file := range files {
			if isPiece(name, file) {
				if err := d.remove(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// list names what a directory holds; one that is not there, or is none, holds nothing.
func (d *clusterDir) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("looking at %s: %w", filepath.Join(d.path, dir), err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

func (d *clusterDir) remove(name string) error {
	err := os.Remove(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", filepath.Join(d.path, name), err)
	}
	d.changed++
	return d.wrote(name)
}
