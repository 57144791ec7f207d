package ignition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/kiln-os/kiln/internal/command"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// stage is one call of upstream's engine.
type stage struct {
	// name is Ignition's word for what is done.
	name string
	// cache is the file with the rendered config; the fetch stages write it.
	cache string
	// before and after are the files with what the stages tell each other.
	before, after string
}

// neednet is the file by which the engine says that it needs the network.
const neednet = nodefs.IgnitionWork + "/neednet"

// engine runs a stage. Its report is in the error when it fails. What the engine writes besides, the whole config when a stage
// fails among it, stays unread: it holds secrets.
func (a *attempt) engine(ctx context.Context, s stage) error {
	work := a.Root.Path(nodefs.IgnitionWork)
	if err := os.MkdirAll(work, 0o700); err != nil {
		return fmt.Errorf("making a directory for the engine: %w", err)
	}
	state, err := os.ReadFile(s.before)
	if err == nil {
		err = put(s.after, state)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = os.RemoveAll(s.after)
	}
	if err != nil {
		return fmt.Errorf("handing on the engine's state: %w", err)
	}
	report := &report{say: a.Say, secrets: a.rendered.secrets()}
	_, err = a.Runner.Run(ctx, command.Command{
		Name: nodefs.Ignition, Stdout: report, Stderr: &bytes.Buffer{},
		Args: []string{"--platform=file", "--stage=" + s.name, "--root=" + string(a.Root), "--config-cache=" + s.cache,
			"--state-file=" + s.after, "--neednet=" + a.Root.Path(neednet), "--log-to-stdout"},
		Env: []string{"IGNITION_CONFIG_FILE=" + a.journal.path(configFile), "TMPDIR=" + work},
	})
	if exit, ok := errors.AsType[*command.ExitError](err); ok {
		return Failed{fmt.Errorf("Ignition's stage %s ended with exit code %d:\n%s", s.name, exit.Code, report.text())}
	}
	return err
}

// Failed says that the config cannot be applied to this machine: what was tried before the error would be tried again.
type Failed struct{ error }

// Unwrap gives the error itself.
func (f Failed) Unwrap() error { return f.error }

// report reads what the engine logs: what is wrong is kept for the end, and each operation is told of.
type report struct {
	say     func(string)
	secrets []string
	rest    []byte
	wrong   []string
}

// Write implements io.Writer.
func (r *report) Write(p []byte) (int, error) {
	r.rest = append(r.rest, p...)
	for {
		line, rest, found := bytes.Cut(r.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		r.line(string(line))
		r.rest = rest
	}
}

// line takes one line, as in "INFO     : disks: createPartitions: op(1): [started]  waiting for devices [/dev/vdb]".
func (r *report) line(text string) {
	for _, secret := range r.secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	level, message, _ := strings.Cut(text, ":")
	message = strings.TrimSpace(message)
	switch strings.TrimSpace(level) {
	case "EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING":
		r.wrong = append(r.wrong, strings.TrimSpace(level)+": "+message)
	case "INFO":
		if _, what, ok := strings.Cut(message, "[finished] "); ok {
			r.say(strings.TrimSpace(what))
		}
	}
}

// text is what the engine found wrong.
func (r *report) text() string {
	if len(r.wrong) == 0 {
		return "    it said nothing of what is wrong"
	}
	return "    " + strings.Join(r.wrong, "\n    ")
}
