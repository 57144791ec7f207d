package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/command"
)

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestStartReportsTheExitCode(t *testing.T) {
	p, err := command.Exec{}.Start(t.Context(), command.Command{Name: "/bin/sh", Args: []string{"-c", "exit 7"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*command.ExitError](p.Wait())
	if !ok || exit.Code != 7 {
		t.Errorf("ended with %v, want exit code 7", p.Wait())
	}
	p.Kill() // after the end: must neither block nor harm
}

func TestStartedProgramEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := command.Exec{}.Start(ctx, command.Command{Name: "/bin/sleep", Args: []string{"60"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the program outlived its context")
	}
	if !gone(p.PID) {
		t.Errorf("process %d still exists", p.PID)
	}
}

func TestKillReachesChildren(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	script := "sleep 60 & echo $! >" + file + ".new; mv " + file + ".new " + file + "; wait"
	p, err := command.Exec{}.Start(t.Context(), command.Command{Name: "/bin/sh", Args: []string{"-c", script}}, false)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	for deadline := time.Now().Add(10 * time.Second); child == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(file)
		child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	p.Kill()
	for deadline := time.Now().Add(10 * time.Second); !gone(child) && !zombie(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("child %d survived", child)
		}
	}
}

// zombie tells whether pid is dead but not yet reaped by whoever inherited it.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(text), ") Z ")
}

func TestStartNamesAMissingProgram(t *testing.T) {
	_, err := command.Exec{}.Start(t.Context(), command.Command{Name: "/no/such/program"}, false)
	if err == nil || !strings.Contains(err.Error(), "starting /no/such/program") {
		t.Errorf("error is %v", err)
	}
}
