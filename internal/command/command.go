// Package command runs other programs. It is the only home of os/exec in kiln, so that every program is started the
// same way: with a context, a captured end of its error output, and arguments that may be logged (no secret is ever
// passed as an argument).
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is one program to run.
type Command struct {
	// Name is the program: a path, or a name looked up in PATH.
	Name string
	Args []string
	// Dir is the working directory; empty means the caller's.
	Dir string
	// Env is added to the caller's environment, KEY=VALUE.
	Env []string
	// CleanEnv drops the caller's environment: only Env is passed.
	CleanEnv bool
	// Chroot, when set, is the directory that becomes the program's root. Needs CAP_SYS_CHROOT.
	Chroot string
	// PrivateMounts keeps what the program mounts to itself: it is gone with the program, however that ends. Needs
	// CAP_SYS_ADMIN.
	PrivateMounts bool
	// Stdin, Stdout and Stderr are optional. Stderr's last lines are also kept for the error. Both outputs may be the same
	// writer.
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Credential, when set, is the user that the program runs as.
	Credential *syscall.Credential
}

// Usage is what a finished program took.
type Usage struct {
	Wall time.Duration
	CPU  time.Duration
	// PeakBytes is the largest resident set of the program or one of its children.
	PeakBytes int64
}

// Runner runs commands. Exec is the real one; tests pass a recorder.
type Runner interface {
	Run(ctx context.Context, c Command) (Usage, error)
}

// Exec runs commands as child processes.
type Exec struct{}

// ExitError says that a program ran and ended badly.
type ExitError struct {
	Name string
	Code int
	// Tail is the end of what the program wrote to its error output.
	Tail string
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("%s ended with exit code %d", e.Name, e.Code)
	}
	return fmt.Sprintf("%s ended with exit code %d:\n%s", e.Name, e.Code, indent(e.Tail))
}

// Run starts c and waits for it. When ctx ends, the program and its children get SIGTERM, and the program SIGKILL ten
// seconds later. It gets SIGTERM when this process is killed, too: it must not write on where the next one begins anew.
func (Exec) Run(ctx context.Context, c Command) (Usage, error) {
	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout = c.Dir, c.Stdin, c.Stdout
	cmd.Env = c.Env
	if !c.CleanEnv {
		cmd.Env = append(os.Environ(), c.Env...)
	}
	tail := &Tail{Max: 4096}
	cmd.Stderr = tail
	if c.Stderr != nil {
		if c.Stderr == c.Stdout {
			shared := &lockedWriter{to: c.Stderr}
			c.Stderr, cmd.Stdout = shared, shared
		}
		cmd.Stderr = io.MultiWriter(c.Stderr, tail)
	}
	// The parent whose death Pdeathsig means is the thread that forks: this one has to live for as long as the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Chroot: c.Chroot, Credential: c.Credential}
	if c.PrivateMounts {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	start := time.Now()
	err := cmd.Run()
	usage := Usage{Wall: time.Since(start)}
	if state := cmd.ProcessState; state != nil {
		usage.CPU = state.UserTime() + state.SystemTime()
		if rusage, ok := state.SysUsage().(*syscall.Rusage); ok {
			usage.PeakBytes = rusage.Maxrss * 1024
		}
	}
	if ctx.Err() != nil {
		return usage, fmt.Errorf("running %s: %w", c.Name, context.Cause(ctx))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return usage, &ExitError{Name: c.Name, Code: exit.ExitCode(), Tail: tail.String()}
	}
	if err != nil {
		return usage, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	return usage, nil
}

// Output runs c and returns its standard output.
func Output(ctx context.Context, r Runner, c Command) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	_, err := r.Run(ctx, c)
	return out.Bytes(), err
}

// Find returns the path of the first of names that PATH has, or "".
func Find(names ...string) string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// lockedWriter takes turns between the two goroutines that copy a program's outputs to one writer.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

// Write implements io.Writer.
func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

// Tail keeps the last Max bytes written to it, from a line's beginning on.
type Tail struct {
	Max  int
	data []byte
	cut  bool
}

// Write implements io.Writer.
func (t *Tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.Max; over > 0 {
		t.data, t.cut = t.data[over:], true
	}
	return len(p), nil
}

// String is the kept text, without a first line that was cut.
func (t *Tail) String() string {
	text := string(t.data)
	if t.cut {
		if _, rest, ok := strings.Cut(text, "\n"); ok {
			text = rest
		}
	}
	return strings.TrimSpace(text)
}

func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }
