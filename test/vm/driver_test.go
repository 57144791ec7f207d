//go:build machine

package vm_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// TestDriver proves what the scenario rests on: a console that is followed, a power button, a power cut, a probe that
// is not fooled. It boots nothing but a kernel.
func TestDriver(t *testing.T) {
	w := newWorld(t)
	tree, kernel := w.qemu, w.kernel
	start := func(t *testing.T, append string, change func(*vm.Options)) *vm.Running {
		t.Helper()
		o := vm.Options{Tree: tree, Host: command.Exec{}, Dir: t.TempDir(), Kernel: kernel, Append: append, MemoryMiB: 512, CPUs: 1}
		if change != nil {
			change(&o)
		}
		m, err := vm.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Kill)
		return m
	}
	speaks := regexp.MustCompile(`Command line: (.*)`)

	t.Run("console and power cut", func(t *testing.T) {
		m := start(t, "console=ttyS0 panic=60 rdinit=/none word=kiln", nil)
		match, err := m.Console().WaitFor(t.Context(), speaks, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(match[1], "word=kiln") {
			t.Errorf("the kernel's command line is %q", match[1])
		}
		if !vm.IsRunning(m.Dir) {
			t.Error("a running machine is not seen to run")
		}
		m.Kill()
		if vm.IsRunning(m.Dir) {
			t.Error("the machine survived a power cut")
		}
		if _, err := os.Stat("/proc/" + strconv.Itoa(m.PID())); err == nil {
			t.Errorf("QEMU %d is still there", m.PID())
		}
	})

	t.Run("reset", func(t *testing.T) {
		m := start(t, "console=ttyS0 panic=60 rdinit=/none", func(o *vm.Options) { o.NoReboot = true })
		if _, err := m.Console().WaitFor(t.Context(), speaks, time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := m.Reset(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-m.Done():
		case <-time.After(20 * time.Second):
			t.Error("-no-reboot did not end QEMU at a reset")
		}
	})

	t.Run("dies with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m, err := vm.Start(ctx, vm.Options{Tree: tree, Host: command.Exec{}, Dir: t.TempDir(), Kernel: kernel, Append: "console=ttyS0"})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		select {
		case <-m.Done():
		case <-time.After(10 * time.Second):
			m.Kill()
			t.Error("QEMU outlived its context")
		}
	})

	t.Run("detached and stopped", func(t *testing.T) {
		m := start(t, "console=ttyS0 panic=60 rdinit=/none", func(o *vm.Options) { o.Detach = true })
		if state, err := vm.ReadState(m.Dir); err != nil || state.PID != m.PID() {
			t.Errorf("state is %+v, %v; want process %d", state, err, m.PID())
		}
		// A panicked kernel hears no power button: the plug has to be pulled.
		clean, err := vm.Stop(m.Dir, time.Second)
		if err != nil || clean {
			t.Errorf("stopped with clean=%v, %v", clean, err)
		}
		if _, err := vm.Stop(m.Dir, time.Second); err == nil {
			t.Error("stopping a machine twice is no error")
		}
	})

	t.Run("a port that is taken", func(t *testing.T) {
		port, release := takePort(t)
		defer release()
		_, err := vm.Start(t.Context(), vm.Options{Tree: tree, Host: command.Exec{}, Dir: t.TempDir(), Kernel: kernel, APIPort: port})
		if err == nil || !strings.Contains(err.Error(), "hostfwd") && !strings.Contains(err.Error(), "forwarding") {
			t.Errorf("error is %v", err)
		}
	})

	t.Run("probe", func(t *testing.T) {
		cache := t.TempDir()
		probe := vm.Probe{Tree: tree, Host: command.Exec{}, Kernel: kernel, CacheDir: cache}
		begin := time.Now()
		accel, reason, err := vm.ChooseAccel(t.Context(), vm.Auto, probe)
		if err != nil || (accel != vm.TCG && accel != vm.KVM) || reason == "" {
			t.Fatalf("probe says %q because %q, %v", accel, reason, err)
		}
		if took := time.Since(begin); took > 45*time.Second {
			t.Errorf("the probe took %s", took)
		}
		t.Logf("%s: %s", accel, reason)
		if strings.HasPrefix(reason, "KVM cannot be used") {
			return
		}
		kept, err := filepath.Glob(filepath.Join(cache, "kvm-*.json"))
		if err != nil || len(kept) != 1 {
			t.Fatalf("the answer was not kept: %v, %v", kept, err)
		}
		again, same, err := vm.ChooseAccel(t.Context(), vm.Auto, probe)
		if err != nil || again != accel || same != reason {
			t.Errorf("the kept answer is %q because %q, %v", again, same, err)
		}
	})
}
