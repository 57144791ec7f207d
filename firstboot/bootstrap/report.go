package bootstrap

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"
)

// MessageFinished is the MESSAGE_ID of the journal's entry that says that the first boot is over, done or failed:
// `journalctl MESSAGE_ID=…` finds it.
const MessageFinished = "5b1f0a7c2e934d6f8a0d3c9be4172f68"

// Report says what happens: lines on Out, structured entries in systemd's journal, and the unit's status. Secrets are
// taken out of everything.
type Report struct {
	// Out gets one line for each message; under systemd it is the console.
	Out io.Writer
	// Journal sends an entry to systemd's journal; nil sends nothing.
	Journal func(message string, priority journal.Priority, fields map[string]string)
	// Notify tells systemd about the service (sd_notify); nil tells nothing.
	Notify func(state string)
	// StatesOnly keeps Journal to what becomes of steps: the other lines get there by way of Out.
	StatesOnly bool

	redactor redactor
	// saying keeps lines whole: kubeadm's two outputs are read at the same time.
	saying sync.Mutex
}

// NewReport writes to out, and to systemd's journal and service manager when a unit of systemd's runs the program.
func NewReport(out io.Writer) *Report {
	r := &Report{Out: out}
	if os.Getenv("INVOCATION_ID") != "" && journal.Enabled() {
		r.Journal = func(message string, priority journal.Priority, fields map[string]string) {
			_ = journal.Send(message, priority, fields)
		}
		r.StatesOnly, _ = journal.StdoutIsJournalStream()
	}
	r.Notify = func(state string) { _, _ = daemon.SdNotify(false, state) }
	return r
}

// event is what there is to say about a step.
type event struct {
	step    string
	state   string
	message string
	seconds float64
	// failed raises the priority; finished marks the end of the first boot.
	failed   bool
	finished bool
}

// say reports e on every channel.
func (r *Report) say(e event) {
	message := r.redactor.text(strings.TrimRight(e.message, "\n"))
	r.saying.Lock()
	defer r.saying.Unlock()
	fmt.Fprintf(r.Out, "%s: %s\n", e.step, message)
	if r.Journal == nil || r.StatesOnly && e.state == "" {
		return
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": "firstboot", "KILN_STEP": e.step}
	if e.state != "" {
		fields["KILN_STATE"] = e.state
		fields["KILN_SECONDS"] = fmt.Sprintf("%.3f", e.seconds)
	}
	if e.finished {
		fields["MESSAGE_ID"] = MessageFinished
	}
	priority := journal.PriInfo
	if e.failed {
		priority = journal.PriErr
	}
	r.Journal(e.step+": "+message, priority, fields)
}

// status sets the one line that `systemctl status` shows.
func (r *Report) status(format string, args ...any) {
	if r.Notify != nil {
		r.Notify("STATUS=" + strings.ReplaceAll(r.redactor.text(fmt.Sprintf(format, args...)), "\n", " "))
	}
}

// ready tells systemd that the service has done its work.
func (r *Report) ready() {
	if r.Notify != nil {
		r.Notify("READY=1")
	}
}

// lines is a writer that says each line written to it as one of step's.
type lines struct {
	report *Report
	step   string
	// seen gets each line before secrets are taken out of it; nil when nobody looks.
	seen func(line string)
	// instead gives what is said for a line, or nothing to leave it out; nil says every line as it is.
	instead func(line string) string
	rest    []byte
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := strings.Cut(string(l.rest), "\n")
		if !found {
			return len(p), nil
		}
		l.rest = []byte(rest)
		l.line(line)
	}
}

// flush says what was written after the last line's end.
func (l *lines) flush() {
	if len(l.rest) > 0 {
		l.line(string(l.rest))
		l.rest = nil
	}
}

func (l *lines) line(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if l.seen != nil {
		l.seen(text)
	}
	if l.instead != nil {
		if text = l.instead(text); text == "" {
			return
		}
	}
	l.report.say(event{step: l.step, message: text})
}

// Redact is err with a text that has no secrets, for whoever prints it; what it is (errors.Is, errors.As) stays.
func (r *Report) Redact(err error) error {
	if err == nil {
		return nil
	}
	return cleanError{err, r.redactor.text(err.Error())}
}

// cleanError says text instead of what the error says.
type cleanError struct {
	error
	text string
}

// Error implements error.
func (e cleanError) Error() string { return e.text }

// Unwrap gives the error itself.
func (e cleanError) Unwrap() error { return e.error }
