//go:build machine

package vm_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/builder/vm"
	"github.com/kiln-os/kiln/internal/command"
)

// checkerDisk builds test/check and puts it on a disk of its own: the image is tested as it is.
func (w world) checkerDisk(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "check")
	w.run(t, command.Command{
		Name: command.Find("go"), Args: []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./test/check"},
		Dir: w.repo, Env: []string{"CGO_ENABLED=0"},
	})
	return w.filesystem(t, "KILNCHECK", map[string]string{"check": program})
}

// withChecker makes the machine run the checker after its first boot. The unit comes as a systemd credential through
// SMBIOS, so that nothing of the image knows of it.
func withChecker(o vm.Options, disk string, args ...string) vm.Options {
	unit := `[Unit]
Description=Compare the node with its release
Requires=dev-disk-by\x2dlabel-KILNCHECK.device
After=dev-disk-by\x2dlabel-KILNCHECK.device
[Service]
Type=exec
ExecStartPre=/usr/bin/mkdir -p /run/kiln-check
ExecStartPre=/usr/bin/mount -o ro /dev/disk/by-label/KILNCHECK /run/kiln-check
ExecStart=/run/kiln-check/check ` + strings.Join(args, " ") + `
StandardOutput=journal+console
StandardError=journal+console
`
	o.ExtraDisks = append(o.ExtraDisks, disk)
	o.Credentials = map[string]string{"systemd.extra-unit.kiln-check.service": unit}
	o.KernelArguments = strings.TrimSpace(o.KernelArguments + " systemd.wants=kiln-check.service")
	return o
}

// passes waits for the checker's summary, and fails with each difference that it found.
func passes(t *testing.T, m *vm.Running, within time.Duration) {
	t.Helper()
	match := expect(t, m, "the checker's summary", `kiln-check: (\d+) passed, (\d+) failed`, within)
	for _, line := range m.Console().Lines() {
		if _, check, ok := strings.Cut(line.Text, "]: FAIL "); ok {
			t.Errorf("inside the node: %s", check)
		} else if _, check, ok := strings.Cut(line.Text, "]: ok   "); ok {
			t.Logf("inside the node: %s", check)
		}
	}
	passed, _ := strconv.Atoi(match[1])
	if match[2] != "0" || passed < 20 {
		t.Errorf("the checker: %s passed, %s failed; want at least 20 and none", match[1], match[2])
	}
}
