package progress

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, false)
	task := r.Start("seal", "joining and hashing")
	task.Total(100, "bytes")
	task.Add(60)
	if n, err := task.Write(make([]byte, 40)); n != 40 || err != nil {
		t.Errorf("Write says %d, %v", n, err)
	}
	task.Say("%d of %d", 1, 2)
	task.Done("381 MiB")
	r.Start("boot", "making").Done("")
	r.Start("disk", "writing").Fail()
	got := regexp.MustCompile(`[0-9.]+(µs|ms|s)\b`).ReplaceAllString(out.String(), "TIME")
	want := `==> seal         joining and hashing
    seal: 1 of 2
    seal         done in TIME, 381 MiB
==> boot         making
    boot         done in TIME
==> disk         writing
    disk         failed after TIME
`
	if got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestALongStepIsNotSilent(t *testing.T) {
	var out bytes.Buffer
	task := New(&out, false).Start("pack", "packing")
	task.Total(200<<20, "bytes")
	task.last = time.Now().Add(-2 * interval)
	task.Add(50 << 20)
	task.Add(50 << 20) // soon after: silent
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), "    pack: 50 of 200 MiB, ") {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestBarOnATerminal(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		var out bytes.Buffer
		task := New(&out, terminal).Start("pack", "packing")
		task.Total(100, "packing files")
		task.Add(50)
		task.Done("")
		if got := strings.Contains(out.String(), "\r"); got != terminal {
			t.Errorf("terminal %t: printed %q", terminal, out.String())
		}
		if !strings.Contains(out.String(), "done in") {
			t.Errorf("terminal %t: the end is missing: %q", terminal, out.String())
		}
	}
}

func TestNoReporter(t *testing.T) {
	var r *Reporter
	task := r.Start("x", "y")
	task.Total(1, "z")
	task.Add(1)
	task.Say("a")
	task.Done("b")
	task.Fail()
	if n, err := task.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("Write says %d, %v", n, err)
	}
}

func TestLinesOfManyStayWhole(t *testing.T) {
	var out bytes.Buffer
	task := New(&out, false).Start("many", "talking")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				task.Say("a whole line")
			}
		})
	}
	all.Wait()
	if got := strings.Count(out.String(), "    many: a whole line\n"); got != 400 {
		t.Errorf("%d of 400 lines are whole", got)
	}
}
