package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/command"
)

// Accel is how QEMU runs the machine's processors.
type Accel string

// The ways to run processors.
const (
	// TCG translates every instruction: works everywhere, ten to thirty times slower than the host.
	TCG Accel = "tcg"
	// KVM runs them on the host's own.
	KVM Accel = "kvm"
	// Auto is KVM where a probe boot shows that it works, else TCG. ChooseAccel turns it into one of the two.
	Auto Accel = "auto"
)

// ParseAccel reads a --accel flag.
func ParseAccel(text string) (Accel, error) {
	switch a := Accel(text); a {
	case TCG, KVM, Auto:
		return a, nil
	}
	return "", fmt.Errorf("--accel: unknown %q (want auto, kvm or tcg)", text)
}

func (a Accel) arguments() []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// Probe is what it takes to find out whether KVM works.
type Probe struct {
	Tree Tree
	Host Host
	// Disk is an image to boot, or Kernel a kernel; neither has to get further than the kernel's first line.
	Disk, Kernel string
	// CacheDir keeps the answer until the host boots again; empty keeps nothing.
	CacheDir string
	// Device is /dev/kvm, unless a test says otherwise.
	Device string
}

// probeTime bounds a probe boot.
const probeTime = 15 * time.Second

// answer is what is kept of a probe.
type answer struct {
	Accel  Accel  `json:"accel"`
	Reason string `json:"reason"`
}

// ChooseAccel turns auto into KVM or TCG, with a line that says why. The presence of /dev/kvm proves little: some
// hosts offer a KVM that no ordinary kernel survives. So a machine is booted until its kernel speaks.
func ChooseAccel(ctx context.Context, want Accel, p Probe) (Accel, string, error) {
	if want != Auto {
		return want, "asked for", nil
	}
	if p.Device == "" {
		p.Device = "/dev/kvm"
	}
	device, err := os.OpenFile(p.Device, os.O_RDWR, 0)
	if err != nil {
		return TCG, fmt.Sprintf("KVM cannot be used: %v", err), nil
	}
	if err := device.Close(); err != nil {
		return "", "", err
	}
	path := p.cachePath()
	if kept, ok := readAnswer(path); ok {
		return kept.Accel, kept.Reason, nil
	}
	found, err := p.boot(ctx)
	if err != nil {
		return "", "", err
	}
	return found.Accel, found.Reason, writeAnswer(path, found)
}

// cachePath names the answer after the host's boot and the QEMU that was tried.
func (p Probe) cachePath() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || p.CacheDir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(string(boot) + p.Tree.Path()))
	return filepath.Join(p.CacheDir, "kvm-"+hex.EncodeToString(sum[:8])+".json")
}

func readAnswer(path string) (answer, bool) {
	var kept answer
	text, err := os.ReadFile(path)
	return kept, err == nil && json.Unmarshal(text, &kept) == nil && kept.Accel != ""
}

func writeAnswer(path string, a answer) error {
	if path == "" {
		return nil
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keeping the answer about KVM: %w", err)
	}
	return os.WriteFile(path, text, 0o644)
}

// kernelSpeaks is the first line of every Linux kernel.
var kernelSpeaks = regexp.MustCompile(`Linux version \d`)

// boot tries a machine under KVM. An error means that nothing was learnt.
func (p Probe) boot(ctx context.Context) (answer, error) {
	dir, err := os.MkdirTemp("", "kiln-kvm-probe-")
	if err != nil {
		return answer{}, fmt.Errorf("probing KVM: %w", err)
	}
	defer os.RemoveAll(dir)
	o := Options{
		Tree: p.Tree, Host: p.Host, Dir: dir, Accel: KVM, MemoryMiB: 1024, CPUs: 1, NoReboot: true,
		Disk: p.Disk, KernelArguments: "ignore_loglevel",
	}
	if p.Kernel != "" {
		o.Disk, o.KernelArguments, o.Kernel, o.Append = "", "", p.Kernel, "console=ttyS0 panic=-1 rdinit=/none"
	}
	start := time.Now()
	machine, err := Start(ctx, o)
	if err == nil {
		defer machine.Kill()
		_, err = machine.Console().WaitFor(ctx, kernelSpeaks, probeTime)
	}
	took := time.Since(start).Round(10 * time.Millisecond)
	switch {
	case ctx.Err() != nil:
		return answer{}, fmt.Errorf("probing KVM: %w", context.Cause(ctx))
	case err == nil:
		return answer{KVM, fmt.Sprintf("KVM works: a probe boot reached its kernel in %s", took)}, nil
	case errors.Is(err, ErrConsole):
		return answer{TCG, fmt.Sprintf("KVM does not work here: a probe boot showed no kernel within %s%s", took, firstMessage(dir))}, nil
	}
	if _, ok := errors.AsType[*command.ExitError](err); ok {
		return answer{TCG, fmt.Sprintf("KVM does not work here: QEMU gave up after %s%s", took, firstMessage(dir))}, nil
	}
	return answer{}, fmt.Errorf("probing KVM: %w", err)
}

// firstMessage is the first line that QEMU printed, in brackets.
func firstMessage(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, fileQEMU))
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if err != nil || line == "" {
		return ""
	}
	return " (" + strings.TrimPrefix(line, "qemu-system-x86_64: ") + ")"
}
