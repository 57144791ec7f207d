package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
)

// fakeHost makes the files that qemu-img would, and lets QEMU end as it is told.
type fakeHost struct {
	ran  [][]string
	qemu string
}

func (h *fakeHost) Run(_ context.Context, c command.Command) (command.Usage, error) {
	h.ran = append(h.ran, c.Args)
	if i := slices.Index(c.Args, "-b"); i > 0 {
		return command.Usage{}, os.WriteFile(c.Args[i+2], nil, 0o644)
	}
	return command.Usage{}, nil
}

func (h *fakeHost) Start(ctx context.Context, c command.Command, detached bool) (*command.Process, error) {
	c.Name, c.Args = "/bin/sh", []string{"-c", h.qemu}
	return command.Exec{}.Start(ctx, c, detached)
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func machineOptions(t *testing.T, host Host) Options {
	t.Helper()
	tree := t.TempDir()
	write(t, filepath.Join(tree, "usr/share/OVMF/OVMF_VARS_4M.fd"), "variables")
	return Options{
		Tree: fakeTree(tree), Host: host, Dir: filepath.Join(t.TempDir(), "machine"),
		Disk: write(t, filepath.Join(t.TempDir(), "disk.raw"), "image"), DiskSize: 1 << 30,
	}
}

func TestStartTellsWhyQEMUEnded(t *testing.T) {
	o := machineOptions(t, &fakeHost{qemu: "echo 'qemu: no such accelerator' >&2; exit 1"})
	_, err := Start(t.Context(), o)
	if _, ok := errors.AsType[*command.ExitError](err); !ok || !strings.Contains(err.Error(), "no such accelerator") {
		t.Errorf("error is %v", err)
	}
}

func TestStartMakesAnOverlayAndKeepsIt(t *testing.T) {
	host := &fakeHost{qemu: "exit 1"}
	o := machineOptions(t, host)
	for range 2 {
		_, _ = Start(t.Context(), o)
	}
	if len(host.ran) != 1 || !slices.Contains(host.ran[0], "1073741824") || !slices.Contains(host.ran[0], o.Disk) {
		t.Fatalf("qemu-img ran as %q, want once, over the image, with the size of the disk", host.ran)
	}
	if text, err := os.ReadFile(o.Disk); err != nil || string(text) != "image" {
		t.Errorf("the image is %q, %v", text, err)
	}
	write(t, o.Disk, "another build")
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another build of the image") {
		t.Errorf("an overlay over another image: %v", err)
	}
}

func TestEachBootKeepsItsLog(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"one", "two", "three"} {
		if err := keepOldLog(dir); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, fileConsole), text)
	}
	for name, want := range map[string]string{"console-1.log": "one", "console-2.log": "two", "console.log": "three"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v; want %q", name, text, err, want)
		}
	}
}

func TestChooseAccelWithoutADevice(t *testing.T) {
	accel, why, err := ChooseAccel(t.Context(), Auto, Probe{Device: filepath.Join(t.TempDir(), "kvm")})
	if err != nil || accel != TCG || !strings.Contains(why, "KVM cannot be used") {
		t.Errorf("%q because %q, %v", accel, why, err)
	}
	if accel, _, err := ChooseAccel(t.Context(), KVM, Probe{}); err != nil || accel != KVM {
		t.Errorf("what was asked for is %q, %v", accel, err)
	}
	if _, err := ParseAccel("hvf"); err == nil || !strings.Contains(err.Error(), "want auto, kvm or tcg") {
		t.Errorf("error is %v", err)
	}
}

func TestProbeKeepsItsAnswer(t *testing.T) {
	o := machineOptions(t, &fakeHost{qemu: "echo 'qemu-system-x86_64: error: failed to set MSR' >&2; exit 1"})
	probe := Probe{Tree: o.Tree, Host: o.Host, Disk: o.Disk, CacheDir: t.TempDir(), Device: write(t, filepath.Join(t.TempDir(), "kvm"), "")}
	accel, why, err := ChooseAccel(t.Context(), Auto, probe)
	if err != nil || accel != TCG || !strings.Contains(why, "(error: failed to set MSR)") {
		t.Fatalf("%q because %q, %v", accel, why, err)
	}
	probe.Host = &fakeHost{qemu: "exit 9"}
	if _, again, err := ChooseAccel(t.Context(), Auto, probe); err != nil || again != why {
		t.Errorf("the second answer is %q, %v; want the kept one", again, err)
	}
}

// fakeQMP speaks QEMU's control protocol (docs/interop/qmp-spec) on dir's socket until it hears quit, or a power button
// that it obeys.
func fakeQMP(t *testing.T, dir string, obeys bool) func() []string {
	t.Helper()
	// The socket's own path may be too long: bind it from within the directory.
	t.Chdir(dir)
	listener, err := net.Listen("unix", socketQMP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var mu sync.Mutex
	var heard []string
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, `{"QMP": {"version": {}, "capabilities": []}}`+"\n")
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				var m struct{ Execute string }
				_ = json.Unmarshal(lines.Bytes(), &m)
				mu.Lock()
				heard = append(heard, m.Execute)
				mu.Unlock()
				_, _ = io.WriteString(conn, `{"event": "RTC_CHANGE"}`+"\n"+`{"return": {}}`+"\n")
				if m.Execute == "quit" || m.Execute == "system_powerdown" && obeys {
					listener.Close()
					break
				}
			}
			conn.Close()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(heard), func(s string) bool { return s == "qmp_capabilities" })
	}
}

func TestStopPressesTheButtonThenPullsThePlug(t *testing.T) {
	for name, c := range map[string]struct {
		obeys bool
		want  []string
	}{
		"a machine that powers off": {true, []string{"system_powerdown"}},
		"a machine that does not":   {false, []string{"system_powerdown", "quit"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			heard := fakeQMP(t, dir, c.obeys)
			if !IsRunning(dir) {
				t.Fatal("a machine that answers is not seen")
			}
			clean, err := Stop(dir, 300*time.Millisecond)
			if err != nil || clean != c.obeys {
				t.Errorf("clean %v, %v", clean, err)
			}
			if !slices.Equal(heard(), c.want) {
				t.Errorf("QEMU heard %q, want %q", heard(), c.want)
			}
			if _, err := Stop(dir, time.Second); !errors.Is(err, ErrNotRunning) {
				t.Errorf("stopping again: %v", err)
			}
		})
	}
}
