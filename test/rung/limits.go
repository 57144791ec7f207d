package rung

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
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

// settingsLock is held, shared, by every Host of this machine; settingsFile has what was changed. They lie where a restart
// of the machine, which forgets the settings, forgets them too.
const (
	settingsLock = "/run/kiln-rung.lock"
	settingsFile = "/run/kiln-rung.json"
)

// changeSettings sets what is not right, until the last Host of this machine is closed.
func (h *Host) changeSettings() error {
	lock, err := os.OpenFile(settingsLock, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	h.settings = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		return fmt.Errorf("locking %s: %w", settingsLock, err)
	}
	before, err := readSettings()
	if err != nil {
		return err
	}
	var change []shared
	for _, s := range sharedSettings() {
		value, err := readNumber(s.path)
		if err != nil {
			return fmt.Errorf("setting up the kernel for nodes: %w", err)
		}
		if value < s.least || s.exact && value != s.least {
			change = append(change, s)
			if _, known := before[s.path]; !known {
				before[s.path] = value
			}
		}
	}
	if len(change) == 0 {
		return nil
	}
	text, err := json.Marshal(before)
	if err != nil {
		return err
	}
	if err := os.WriteFile(settingsFile, text, 0o644); err != nil {
		return err
	}
	for _, s := range change {
		if err := os.WriteFile(s.path, []byte(strconv.Itoa(s.least)), 0); err != nil {
			return fmt.Errorf("setting up the kernel for nodes: %w", err)
		}
	}
	return nil
}

// readSettings reads what was changed and how it was before, by path.
func readSettings() (map[string]int, error) {
	before := map[string]int{}
	text, err := os.ReadFile(settingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return before, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the host's settings from before: %w", err)
	}
	return before, nil
}

func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w; load the module that has it (modprobe nf_conntrack)", err)
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// restoreSettings gives the host back what was changed, also by a Host that was killed, unless another Host is open.
func (h *Host) restoreSettings() error {
	if h.settings == nil {
		return nil
	}
	defer h.settings.Close()
	if unix.Flock(int(h.settings.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	before, err := readSettings()
	if err != nil {
		return err
	}
	var errs []error
	for path, value := range before {
		errs = append(errs, os.WriteFile(path, []byte(strconv.Itoa(value)), 0))
	}
	if err := os.Remove(settingsFile); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
