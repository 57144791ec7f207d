package main

import (
	"fmt"
	"io"
	"strings"
)

// Report prints checks as they end and counts them.
type Report struct {
	Out            io.Writer
	passed, failed int
}

// Add prints the end of the check called name: one line, or one for each problem. Note says what was seen.
func (r *Report) Add(name, note string, err error) {
	if err == nil {
		r.passed++
		if note != "" {
			note = ": " + note
		}
		fmt.Fprintf(r.Out, "ok   %s%s\n", name, note)
		return
	}
	r.failed++
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(r.Out, "FAIL %s: %s\n", name, line)
	}
}

// End prints the summary, by which whoever reads the console knows that there is nothing more to come, and returns the
// exit status.
func (r *Report) End() int {
	fmt.Fprintf(r.Out, "kiln-check: %d passed, %d failed\n", r.passed, r.failed)
	if r.failed > 0 || r.passed == 0 {
		return 1
	}
	return 0
}

// differs is nil when got is want, else an error in the report's words.
func differs(what, got, want string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s: got %s, want %s", what, quote(got), quote(want))
}

func quote(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}
