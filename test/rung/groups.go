package rung

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// hierarchy is one of the host's cgroup hierarchies.
type hierarchy struct {
	// dir is where the host has it mounted.
	dir string
	// kind and options are what a node mounts it with: cgroup or cgroup2.
	kind, options string
}

// groups are the host's cgroup hierarchies, and the name of the group in each of them below which the nodes' groups lie.
type groups struct {
	name        string
	hierarchies []hierarchy
}

// findGroups finds the hierarchies. dir makes the name: the groups of one Host are found again by its directory.
func findGroups(dir string) (groups, error) {
	g := groups{name: GroupName(dir)}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return g, err
	}
	g.hierarchies = parseHierarchies(string(text))
	if len(g.hierarchies) == 0 {
		return g, errors.New("no cgroup hierarchy is mounted on this machine")
	}
	return g, nil
}

// GroupName is the name of the cgroups of the Host in dir, an absolute path.
func GroupName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "kiln-rung-" + hex.EncodeToString(sum[:4])
}

// parseHierarchies reads mountinfo (proc(5)): fields, a dash, then type, source and the superblock's options.
func parseHierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for _, line := range strings.Split(mountinfo, "\n") {
		before, after, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 3 {
			continue
		}
		switch h := (hierarchy{dir: fields[4], kind: rest[0]}); h.kind {
		case "cgroup2":
			found = append(found, h)
		case "cgroup":
			var options []string
			for _, option := range strings.Split(rest[2], ",") {
				switch {
				case strings.HasPrefix(option, "name="):
					options = append(options, "none", option)
				case option != "rw" && option != "xattr" && !strings.HasPrefix(option, "release_agent="):
					options = append(options, option)
				}
			}
			h.options = strings.Join(options, ",")
			found = append(found, h)
		}
	}
	return found
}

// legacy tells whether controllers are in hierarchies of version 1.
func (g groups) legacy() bool {
	for _, h := range g.hierarchies {
		if h.kind == "cgroup" {
			return true
		}
	}
	return false
}

// path is the group of a node in a hierarchy; an empty node means the group of all of them.
func (g groups) path(h hierarchy, node string) string { return filepath.Join(h.dir, g.name, node) }

// add makes a node's groups.
func (g groups) add(node string) error {
	for _, h := range g.hierarchies {
		for _, dir := range []string{g.path(h, ""), g.path(h, node)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("making cgroup: %w", err)
			}
			if err := inherit(dir, h); err != nil {
				return fmt.Errorf("setting up cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

// inherit gives a new group what it does not have by itself: with version 1 a set of processors and memory nodes, without
// which nothing may run in it; with version 2 the controllers of its parent.
func inherit(dir string, h hierarchy) error {
	parent := filepath.Dir(dir)
	if h.kind == "cgroup2" {
		controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for _, controller := range strings.Fields(string(controllers)) {
			// One that the parent's own processes hold back is left out.
			_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// remove ends what still runs in a node's groups and removes them with all groups below; "" means all nodes.
func (g groups) remove(node string) error {
	var errs []error
	for _, h := range g.hierarchies {
		top := g.path(h, node)
		err := await(context.Background(), 10*time.Second, func() bool {
			g.killBelow(top)
			return removeBelow(top) == nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("removing cgroup %s: %w", top, errors.Join(err, removeBelow(top))))
		}
	}
	return errors.Join(errs...)
}

// killBelow ends every process of the groups at and below top. They are ours: nobody else has this group's name.
func (g groups) killBelow(top string) {
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "cgroup.procs" {
			text, _ := os.ReadFile(path)
			for _, field := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					_ = kill(pid)
				}
			}
		}
		return nil
	})
}

// removeBelow removes groups from the deepest up; the files in them go with them.
func removeBelow(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeBelow(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
