package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Process is a program that Start started.
type Process struct {
	// PID is the program's process number, and its process group's.
	PID  int
	name string
	done chan struct{}
	once sync.Once
	err  error
}

// Start starts c and does not wait for it. The program lives at most as long as ctx and as this process: it gets
// SIGKILL when either ends. With detached it lives on by itself, in a session of its own; its output must then go to
// files.
func (Exec) Start(ctx context.Context, c Command, detached bool) (*Process, error) {
	cmd := exec.Command(c.Name, c.Args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdin, c.Stdout, c.Stderr
	cmd.Env = c.Env
	if !c.CleanEnv {
		cmd.Env = append(os.Environ(), c.Env...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: c.Chroot, Credential: c.Credential}
	if detached {
		cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Pdeathsig = false, true, 0
	}
	p := &Process{name: c.Name, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The parent whose death Pdeathsig means is the thread that forked: it has to stay for as long as the program does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("starting %s: %w", c.Name, err)
			return
		}
		p.PID = cmd.Process.Pid
		started <- nil
		p.err = p.ended(cmd.Wait())
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	if !detached {
		go func() {
			select {
			case <-ctx.Done():
				p.Kill()
			case <-p.done:
			}
		}()
	}
	return p, nil
}

func (p *Process) ended(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ExitError{Name: p.name, Code: exit.ExitCode()}
	}
	return err
}

// Kill ends the program and its children at once, as a power cut would, and waits until it is gone.
func (p *Process) Kill() {
	p.once.Do(func() {
		select {
		case <-p.done:
		default:
			// The program has not been waited for, so the number is still its own.
			_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		}
	})
	<-p.done
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end. An *ExitError says that it ended badly.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}
