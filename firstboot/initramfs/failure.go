package initramfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiln-os/kiln/internal/command"
)

// hinted is an error that knows what the person in front of the machine can do.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// withHint adds what to do to an error; nil stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return hinted{error: err, hint: hint}
}

// StepError is the failure of a step.
type StepError struct {
	// Step is the name of the step.
	Step string
	Err  error
}

// Error implements error.
func (e *StepError) Error() string { return "step " + e.Step + ": " + e.Err.Error() }

// Unwrap implements errors.
func (e *StepError) Unwrap() error { return e.Err }

// report is the text that explains a failure: which step, what was seen, what to do. Cmdline is the kernel's command
// line, seen are lines about the machine.
func report(err error, cmdline string, seen []string) string {
	var out strings.Builder
	rule := strings.Repeat("=", 70)
	fmt.Fprintln(&out, rule)
	step, cause := "init", err
	if failed, ok := errors.AsType[*StepError](err); ok {
		step, cause = failed.Step, failed.Err
	}
	fmt.Fprintf(&out, "THIS NODE DID NOT BOOT. The step %q failed:\n", step)
	fmt.Fprintf(&out, "  %s\n", strings.ReplaceAll(cause.Error(), "\n", "\n  "))
	fmt.Fprintf(&out, "Kernel command line: %s\n", strings.TrimSpace(cmdline))
	for _, line := range seen {
		fmt.Fprintln(&out, line)
	}
	hint := "note this screen, and boot with kiln.shell on the kernel command line to look around"
	if h, ok := errors.AsType[hinted](err); ok {
		hint = h.hint
	}
	fmt.Fprintf(&out, "What to do: %s.\n%s\n", hint, rule)
	return out.String()
}

// seen describes the machine's disks and modules; before any module was loaded there is nothing to say about them.
func (b *boot) seen() []string {
	if b.modules == nil {
		return nil
	}
	lines := []string{"Disks seen:"}
	for _, d := range b.devices.list() {
		for _, line := range d.describe() {
			lines = append(lines, "  "+line)
		}
	}
	if len(lines) == 1 {
		lines = append(lines, "  none")
	}
	if idle := driverless(b.sys); len(idle) > 0 {
		lines = append(lines, "Storage controllers without a driver: "+strings.Join(idle, ", "))
	}
	lines = append(lines, "Modules loaded: "+strings.Join(b.modules.names(), " "))
	return append(lines, b.modules.refused()...)
}

// giveUp explains the failure, then opens a shell if the command line asks for one, and restarts the machine. It never returns:
// if process 1 ended, the kernel would panic.
func (b *boot) giveUp(err error) {
	cmdline, _ := os.ReadFile("/proc/cmdline")
	b.console.print(levelError, report(err, string(cmdline), b.seen()))
	if b.params.Shell {
		b.shell()
	} else {
		b.countdown()
	}
	b.console.complain("restarting now")
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	b.console.complain("restarting: %s; switch the machine off and on", err)
	for {
		time.Sleep(time.Hour)
	}
}

// countdown lets the explanation stand for a while.
func (b *boot) countdown() {
	for left := b.params.Reboot; left > 0; left -= 10 * time.Second {
		b.console.complain("restarting in %d seconds", int(left.Seconds()))
		time.Sleep(min(left, 10*time.Second))
	}
}

const busybox = "/bin/busybox"

// shellScript opens the shell in a session of its own, so that control-C stops the program in the shell and nothing else. It names
// /dev/console itself: a pipe of ours would outlive what the shell leaves in the background.
const shellScript = "/bin/busybox setsid -c /bin/busybox sh <>/dev/console >&0 2>&0; true"

// shell runs busybox on the console until it ends.
func (b *boot) shell() {
	b.console.complain("kiln.shell is on the kernel command line: here is a shell; the machine restarts when it ends")
	ctx := context.Background()
	_, _ = b.commands.Run(ctx, command.Command{Name: busybox, Args: []string{"--install", "-s", "/bin"}})
	_, err := b.commands.Run(ctx, command.Command{
		Name: busybox, Args: []string{"sh", "-c", shellScript}, Env: []string{"PATH=/bin", "HOME=/", "TERM=linux"},
	})
	if err != nil {
		b.console.complain("no shell: %s", err)
		b.countdown()
	}
}
