package rung

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestParseHierarchies(t *testing.T) {
	mountinfo := `24 1 0:20 / /sys rw,nosuid - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 master:1 - cgroup cgroup rw,cpu,cpuacct
`
	want := []hierarchy{
		{"/sys/fs/cgroup/unified", "cgroup2", ""},
		{"/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd"},
		{"/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"},
	}
	have := parseHierarchies(mountinfo)
	if !slices.Equal(have, want) {
		t.Errorf("found %+v, want %+v", have, want)
	}
	if !(groups{hierarchies: have}).legacy() || (groups{hierarchies: have[:1]}).legacy() {
		t.Error("version 1 and version 2 are not told apart")
	}
}

func TestTreeHoldsWhatItHas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	for _, files := range []tree{{"old": "gone"}, {"a/script": "#!/bin/sh\n", "a/text": "text\n"}} {
		if err := files.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "old")); err == nil {
		t.Error("a file of the time before is still there")
	}
	for name, mode := range map[string]os.FileMode{"a/script": 0o755, "a/text": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, info, err, mode)
		}
	}
}

func TestTerminalWritesItsLog(t *testing.T) {
	if _, err := os.Stat("/dev/ptmx"); err != nil {
		t.Skip("no pseudo terminals:", err)
	}
	log := filepath.Join(t.TempDir(), "console.log")
	term, err := newTerminal(log)
	if err != nil {
		t.Fatal(err)
	}
	node, err := os.OpenFile(term.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	node.Close()
	seen := func() bool { text, _ := os.ReadFile(log); return bytes.Contains(text, []byte("hello")) }
	if err := await(context.Background(), 10*time.Second, seen); err != nil {
		t.Error(err)
	}
	term.close()
}

func TestLockIsForOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(path); err == nil {
		t.Error("the lock was had twice")
	}
	lock.Close()
	again, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
