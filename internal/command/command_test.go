package command

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A bytes.Buffer that is both outputs once lost what came by the second: its ReadFrom and its Write ran at once.
func TestBothOutputsToOneWriter(t *testing.T) {
	for i := range 50 {
		var out bytes.Buffer
		_, err := Exec{}.Run(t.Context(), Command{Name: "sh", Args: []string{"-c", "echo out; echo err >&2"}, Stdout: &out, Stderr: &out})
		if text := out.String(); err != nil || !strings.Contains(text, "out\n") || !strings.Contains(text, "err\n") {
			t.Fatalf("run %d: %q, %v", i, text, err)
		}
	}
}

func TestExitError(t *testing.T) {
	_, err := Exec{}.Run(t.Context(), Command{Name: "sh", Args: []string{"-c", "echo this is why >&2; exit 3"}})
	exit, ok := errors.AsType[*ExitError](err)
	if !ok || exit.Code != 3 || exit.Tail != "this is why" {
		t.Errorf("error is %v", err)
	}
}

func TestTailBeginsWithAWholeLine(t *testing.T) {
	tail := &Tail{Max: 20}
	for i := range 10 {
		fmt.Fprintf(tail, "line %d\n", i)
	}
	if got := tail.String(); got != "line 8\nline 9" {
		t.Errorf("tail is %q", got)
	}
}
