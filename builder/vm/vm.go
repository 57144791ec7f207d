// Package vm boots disk images in QEMU: on any Linux host, as an ordinary user, with the QEMU and the firmware of a
// tools tree. The image itself is never written to: a machine's disk is an overlay in the machine's own directory.
package vm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kiln-os/kiln/internal/command"
)

// Tree is an unpacked tree of Debian packages that holds QEMU, qemu-img, OVMF and SeaBIOS.
type Tree interface {
	// Command runs the tree's program name with the tree's own loader and libraries.
	Command(name string, args ...string) command.Command
	// Path is a path within the tree.
	Path(elem ...string) string
}

// Host runs programs: command.Exec.
type Host interface {
	command.Runner
	Start(ctx context.Context, c command.Command, detached bool) (*command.Process, error)
}

// Files of a machine's directory.
const (
	fileDisk    = "disk.qcow2"
	fileVars    = "firmware-vars.fd"
	fileConsole = "console.log"
	fileQEMU    = "qemu.log"
	fileState   = "vm.json"
	// Sockets are named relative to the directory, which is QEMU's working directory: the path of a Unix socket may
	// have 107 characters at most.
	socketQMP     = "qmp.sock"
	socketConsole = "console.sock"
)

// Running is a machine that was started and is a child of this process.
type Running struct {
	// Dir is the machine's directory.
	Dir     string
	console *Console
	process *command.Process
}

// Start starts a machine: it makes the overlay disk if the directory has none yet, starts QEMU, and returns when QEMU
// answers on its control socket. The machine dies with ctx and with this process, unless it is detached.
func Start(ctx context.Context, o Options) (*Running, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the machine's directory: %w", err)
	}
	if IsRunning(o.Dir) {
		return nil, fmt.Errorf("%s: a machine is running there; stop it first, or use another directory", o.Dir)
	}
	if err := prepareFiles(ctx, o); err != nil {
		return nil, err
	}
	process, err := launch(ctx, o)
	if err != nil {
		return nil, err
	}
	console := Follow(filepath.Join(o.Dir, fileConsole), o.Console)
	r := &Running{Dir: o.Dir, console: console, process: process}
	go func() {
		<-process.Done()
		console.Close()
	}()
	if err := r.answers(ctx); err != nil {
		r.Kill()
		return nil, err
	}
	return r, writeState(o, process.PID)
}

// launch starts QEMU with its messages going to a file, where they survive a detached machine's parent.
func launch(ctx context.Context, o Options) (*command.Process, error) {
	log, err := os.Create(filepath.Join(o.Dir, fileQEMU))
	if err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	defer log.Close()
	c := o.Tree.Command("qemu-system-x86_64", Arguments(o)...)
	c.Dir, c.Stdout, c.Stderr = o.Dir, log, log
	process, err := o.Host.Start(ctx, c, o.Detach)
	if err != nil {
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	return process, nil
}

// answerTime is how long QEMU may take until it answers on its control socket.
const answerTime = 20 * time.Second

func (r *Running) answers(ctx context.Context) error {
	deadline := time.After(answerTime)
	for {
		client, err := dialQMP(r.Dir)
		if err == nil {
			return client.Close()
		}
		select {
		case <-r.process.Done():
			return r.ended("starting QEMU")
		case <-ctx.Done():
			return fmt.Errorf("starting QEMU: %w", context.Cause(ctx))
		case <-deadline:
			return fmt.Errorf("starting QEMU: it did not answer on its control socket within %s: %w", answerTime, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ended explains why QEMU is no more.
func (r *Running) ended(doing string) error {
	text, _ := os.ReadFile(filepath.Join(r.Dir, fileQEMU))
	tail := &command.Tail{Max: 2000}
	_, _ = tail.Write(text)
	if err := r.process.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", doing, err, tail)
	}
	return fmt.Errorf("%s: QEMU ended\n%s", doing, tail)
}

// Console is what the machine writes to its serial console.
func (r *Running) Console() *Console { return r.console }

// PID is QEMU's process number.
func (r *Running) PID() int { return r.process.PID }

// Kill ends the machine as a power cut does: nothing is written back, nothing is asked.
func (r *Running) Kill() { r.process.Kill() }

// Done is closed when QEMU has ended.
func (r *Running) Done() <-chan struct{} { return r.process.Done() }

// Wait waits until QEMU has ended, and says so when it ended badly.
func (r *Running) Wait() error {
	if err := r.process.Wait(); err != nil {
		return r.ended("running QEMU")
	}
	return nil
}

// Powerdown presses the machine's power button and waits until the machine is off or ctx ends.
func (r *Running) Powerdown(ctx context.Context) error {
	if err := control(r.Dir, "system_powerdown"); err != nil {
		return err
	}
	select {
	case <-r.process.Done():
		return r.process.Wait()
	case <-ctx.Done():
		return fmt.Errorf("waiting for the machine to power off: %w; the console's last lines:\n%s", context.Cause(ctx), r.console.Last(30))
	}
}

// Reset presses the machine's reset button.
func (r *Running) Reset() error { return control(r.Dir, "system_reset") }
