package rung

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// shared is a setting of the kernel that belongs to no namespace, so that the nodes cannot set it.
type shared struct {
	path string
	// least is what nodes need; exact tells that more is not right either.
	least int
	exact bool
}

// sharedSettings are what the host has to set for its nodes.
func sharedSettings() []shared {
	return []shared{
		// The image's own (90-kiln.conf); all nodes draw on the same root user's.
		{path: "/proc/sys/fs/inotify/max_user_instances", least: 8192},
		{path: "/proc/sys/fs/inotify/max_user_watches", least: 524288},
		// kube-proxy wants exactly this value (cmd/kube-proxy, getConntrackMax: maxPerCore and min have these defaults),
		// and ends when it finds another that it may not change.
		{path: "/proc/sys/net/netfilter/nf_conntrack_max", least: max(32768*runtime.NumCPU(), 131072), exact: true},
	}
}

// settingsFile keeps what was changed, for a next Open if this process comes to no orderly end.
func (h *Host) settingsFile() string { return filepath.Join(h.o.Dir, "host-settings.json") }

// changeSettings sets what is not right, until restoreSettings.
func (h *Host) changeSettings() error {
	changed := map[string]string{}
	for _, s := range sharedSettings() {
		was, err := os.ReadFile(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting up the kernel for nodes: %s is missing; load its module (modprobe nf_conntrack)", s.path)
		}
		if err != nil {
			return err
		}
		value, err := strconv.Atoi(strings.TrimSpace(string(was)))
		if err != nil {
			return fmt.Errorf("reading %s: %w", s.path, err)
		}
		if value < s.least || s.exact && value != s.least {
			changed[s.path] = strconv.Itoa(value)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	text, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	if err := os.WriteFile(h.settingsFile(), text, 0o644); err != nil {
		return err
	}
	for _, s := range sharedSettings() {
		if _, change := changed[s.path]; change {
			if err := os.WriteFile(s.path, []byte(strconv.Itoa(s.least)), 0); err != nil {
				return fmt.Errorf("setting up the kernel for nodes: %w", err)
			}
		}
	}
	return nil
}

// restoreSettings gives the host back what changeSettings changed, in this run or in one that was killed.
func (h *Host) restoreSettings() error {
	text, err := os.ReadFile(h.settingsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var changed map[string]string
	if err := errors.Join(err, json.Unmarshal(text, &changed)); err != nil {
		return fmt.Errorf("restoring the host's settings: %w", err)
	}
	errs := []error{os.Remove(h.settingsFile())}
	for path, value := range changed {
		errs = append(errs, os.WriteFile(path, []byte(value), 0))
	}
	return errors.Join(errs...)
}
