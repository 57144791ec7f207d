package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/kiln-os/kiln/builder/parts"
	"github.com/kiln-os/kiln/internal/command"
)

//go:embed firstboot.sh
var firstbootScript string

// own is what firstboot took until it started kubeadm.
type own struct {
	cpu, children time.Duration
	peak          int64
	journal       string
}

// benchFirstboot runs firstboot natively in the built root, up to the moment it starts kubeadm.
func benchFirstboot(ctx context.Context, t *table) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for namespaces; run it as root")
	}
	b, err := build(ctx, "vm-disk", "", "out/bench")
	if err != nil {
		return err
	}
	identity, err := benchIdentity(ctx)
	if err != nil {
		return err
	}
	cache, _, err := kiln(ctx, "cache", "path")
	if err != nil {
		return err
	}
	system, payload := b.part(cache, "system", "system.squashfs"), b.part(cache, "payload", "payload.squashfs")
	var all []own
	for range runs {
		one, err := firstbootOnce(ctx, system, payload, identity)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].cpu < all[j].cpu })
	m := all[len(all)/2]
	t.row("until kubeadm starts", fmt.Sprintf("median of %d", runs), "aim")
	t.row("its own CPU", m.cpu, "at most 60 ms")
	t.row("CPU of programs it ran (ctr)", m.children)
	t.row("peak memory", mib(m.peak), "at most 25 MiB")
	for _, line := range strings.Split(strings.TrimSpace(m.journal), "\n") {
		t.row("  journal", line)
	}
	return nil
}

// benchIdentity makes the identity of the measured node, once.
func benchIdentity(ctx context.Context) (string, error) {
	dir := "out/bench-identity"
	_, _, err := kiln(ctx, "identity", "new", "bench", "--address", "10.0.2.15", "--endpoint", "10.0.2.15:6443", "-o", dir)
	return filepath.Join(dir, "config.ign"), err
}

func firstbootOnce(ctx context.Context, system, payload, identity string) (own, error) {
	work, err := os.MkdirTemp("/var/tmp", "kiln-firstboot-")
	if err != nil {
		return own{}, err
	}
	defer parts.RemoveAll(work)
	identity, err = filepath.Abs(identity)
	if err != nil {
		return own{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := command.Output(ctx, command.Exec{}, command.Command{
		Name: "unshare", Args: []string{"--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", firstbootScript, "firstboot.sh", system, payload, identity, work},
	})
	if err != nil {
		return own{}, err
	}
	probe, journal, _ := strings.Cut(string(out), "journal\n")
	return parseProbe(probe, journal)
}

// parseProbe reads a process's stat line (fields 14 to 17: its own and its children's ticks of 10 ms) and its VmHWM.
func parseProbe(probe, journal string) (own, error) {
	stat, status, _ := strings.Cut(probe, "\n")
	_, rest, ok := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 15 {
		return own{}, fmt.Errorf("the probe says %q", probe)
	}
	ticks := make([]time.Duration, 4)
	for i, field := range fields[11:15] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return own{}, err
		}
		ticks[i] = time.Duration(n) * 10 * time.Millisecond
	}
	words := strings.Fields(status)
	if len(words) < 2 {
		return own{}, fmt.Errorf("the probe says %q", probe)
	}
	kib, err := strconv.ParseInt(words[1], 10, 64)
	return own{cpu: ticks[0] + ticks[1], children: ticks[2] + ticks[3], peak: kib << 10, journal: journal}, err
}
