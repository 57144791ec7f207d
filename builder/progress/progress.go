// Package progress shows a person how a long command is getting on: one line for each step with its time, and a bar
// with bytes for anything long on a terminal. Everything goes to the error output; results are not its business.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Reporter prints steps as they begin and end.
type Reporter struct {
	out      io.Writer
	terminal bool
	mu       sync.Mutex
}

// New reports to out; terminal tells whether bars can be drawn there.
func New(out io.Writer, terminal bool) *Reporter { return &Reporter{out: out, terminal: terminal} }

// Task is one step under way. Its methods may be called from several goroutines. A nil Task reports nothing.
type Task struct {
	reporter *Reporter
	name     string
	start    time.Time
	bar      *progressbar.ProgressBar
	last     time.Time
	done     int64
	total    int64
}

// Start announces a step: name is short, does says in a few words what it is doing.
func (r *Reporter) Start(name, does string) *Task {
	if r == nil {
		return nil
	}
	t := &Task{reporter: r, name: name, start: time.Now(), last: time.Now()}
	r.println(fmt.Sprintf("==> %-12s %s", name, does))
	return t
}

// Total tells how many bytes (or pieces) are to come and draws a bar on a terminal.
func (t *Task) Total(n int64, what string) {
	if t == nil {
		return
	}
	t.reporter.mu.Lock()
	defer t.reporter.mu.Unlock()
	t.total = n
	if t.reporter.terminal {
		t.bar = progressbar.NewOptions64(n, progressbar.OptionSetWriter(t.reporter.out), progressbar.OptionSetDescription("    "+what),
			progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(30), progressbar.OptionShowElapsedTimeOnFinish())
	}
}

// interval is how often a step without a terminal says how far it is.
const interval = 15 * time.Second

// Write counts len(p) bytes as done.
func (t *Task) Write(p []byte) (int, error) {
	t.Add(int64(len(p)))
	return len(p), nil
}

// Add counts n bytes as done.
func (t *Task) Add(n int64) {
	if t == nil {
		return
	}
	t.reporter.mu.Lock()
	defer t.reporter.mu.Unlock()
	t.done += n
	switch {
	case t.bar != nil:
		_ = t.bar.Add64(n)
	case time.Since(t.last) > interval:
		t.last = time.Now()
		fmt.Fprintf(t.reporter.out, "    %s: %d of %d MiB, %s\n", t.name, t.done>>20, t.total>>20, t.elapsed())
	}
}

// Say prints a line below the step.
func (t *Task) Say(format string, args ...any) {
	if t != nil {
		t.reporter.println("    " + t.name + ": " + fmt.Sprintf(format, args...))
	}
}

// Done ends the step; note says what came of it, as in "381 MiB".
func (t *Task) Done(note string) {
	if t == nil {
		return
	}
	t.finishBar()
	if note != "" {
		note = ", " + note
	}
	t.reporter.println(fmt.Sprintf("    %-12s done in %s%s", t.name, t.elapsed(), note))
}

// Fail ends the step without success; the error itself is printed by the command.
func (t *Task) Fail() {
	if t == nil {
		return
	}
	t.finishBar()
	t.reporter.println(fmt.Sprintf("    %-12s failed after %s", t.name, t.elapsed()))
}

func (t *Task) finishBar() {
	if t.bar != nil {
		_ = t.bar.Finish()
	}
}

func (t *Task) elapsed() string {
	return time.Since(t.start).Round(100 * time.Millisecond).String()
}

func (r *Reporter) println(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.terminal {
		fmt.Fprint(r.out, "\r\033[K")
	}
	fmt.Fprintln(r.out, line)
}
