package bootstrap

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/kiln-os/kiln/firstboot/install"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// DryRun prints the steps that Run would run and the configuration that kubeadm would get, without secrets. It reads
// the identity and changes nothing.
func (m *Machine) DryRun(ctx context.Context, out io.Writer) error {
	image, err := m.readImage()
	if err != nil {
		return err
	}
	records, _, err := readJournal(m.Root.Path(nodefs.Journal))
	if err != nil {
		return fmt.Errorf("reading journal: %w", err)
	}
	journal := &stepJournal{records: records}
	f, err := m.findIdentity(ctx, image, journal)
	if m.nobody(err) {
		i, err := m.installer(found{})
		return showInstall(out, i, err)
	}
	if err != nil {
		return err
	}
	m.Report.redactor.learn(f.id)
	if i, err := m.installer(f); i != nil || err != nil {
		return showInstall(out, i, err)
	}
	p := m.plan(image, f, journal)
	if journal.has(whole, done) {
		fmt.Fprintln(out, "The first boot was completed before; nothing would be done. These steps were:")
	}
	// The fence may still decide otherwise; a dry run asks nobody.
	p.founds = f.id.Node.Initialise && !journal.has("kubeadm-join", began)
	list := p.list()
	for i, s := range list {
		fmt.Fprintf(out, "%2d  %-16s  %s\n", i+1, s.Name, s.Does)
	}
	p.o = p.o.Redacted()
	text, err := p.renderConfig()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nidentity: %s, from %s\n\n# %s\n%s", f.id.Node.Name, f.from, nodefs.KubeadmConfig, text)
	return err
}

// showInstall prints the steps of an installation.
func showInstall(out io.Writer, i *install.Installer, err error) error {
	if err != nil {
		return err
	}
	for n, s := range append(step.List{identityStep(nil)}, i.All()...) {
		fmt.Fprintf(out, "%2d  %-16s  %s\n", n+1, s.Name, s.Does)
	}
	return nil
}

// States of the first boot.
const (
	StatePending = "pending"
	StateRunning = "running"
	StateDone    = "done"
	StateFailed  = "failed"
)

// Status is how far the first boot is.
type Status struct {
	// State is pending (not begun, or cut off and not yet taken up again), running, done or failed (a person is needed).
	State string `json:"state"`
	// Node, Role, Profile, Release and Version are empty as far as they are not known yet.
	Node    string `json:"node,omitempty"`
	Role    string `json:"role,omitempty"`
	Profile string `json:"profile,omitempty"`
	Release string `json:"release,omitempty"`
	Version string `json:"version,omitempty"`
	// BootID is the boot of the last record.
	BootID   string       `json:"bootID,omitempty"`
	Started  *time.Time   `json:"started,omitempty"`
	Finished *time.Time   `json:"finished,omitempty"`
	Steps    []StepStatus `json:"steps"`
}

// StepStatus is how far one step is.
type StepStatus struct {
	Name string `json:"name"`
	// State is running, done or failed; a failed step of a running first boot will run again.
	State   string  `json:"state"`
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// ReadStatus reads how far the first boot is from the journal and the baked documents below root. It asks no API, so it
// answers on a node that has never had a cluster.
func ReadStatus(root nodefs.Root) (Status, error) {
	records, running, err := readJournal(root.Path(nodefs.Journal))
	if err != nil {
		return Status{}, fmt.Errorf("reading journal: %w; ask as root", err)
	}
	status := statusOf(records, running)
	m := &Machine{Root: root}
	if i, err := m.readImage(); err == nil {
		status.Role, status.Profile, status.Release, status.Version = i.baked.Role, i.baked.Profile, i.baked.Release, i.baked.Version
	}
	// By its name alone: what is left of the copy after the first boot is no whole identity.
	status.Node = m.copiedName()
	return status, nil
}

// statusOf folds the records: the last word on each step counts.
func statusOf(records []record, running bool) Status {
	status := Status{State: StatePending, Steps: []StepStatus{}}
	index := map[string]int{}
	for i, r := range records {
		if i == 0 {
			status.Started = &r.Time
		}
		status.BootID = r.BootID
		if r.Step == whole {
			status.State, status.Finished = StateDone, &r.Time
			continue
		}
		if r.Step == installation {
			// The machine is about to leave the live system, or was asked to.
			status.State, status.Finished = StateDone, &r.Time
		}
		at, seen := index[r.Step]
		if !seen {
			at = len(status.Steps)
			index[r.Step] = at
			status.Steps = append(status.Steps, StepStatus{})
		}
		state := map[string]string{began: StateRunning, done: StateDone, failed: StateFailed}[r.State]
		status.Steps[at] = StepStatus{Name: r.Step, State: state, Seconds: r.Seconds, Note: r.Note, Error: r.Error}
	}
	if status.State == StateDone {
		return status
	}
	for i := range status.Steps {
		if !running && status.Steps[i].State == StateRunning {
			status.Steps[i].State = StatePending // cut off
		}
		if status.Steps[i].State == StateFailed {
			status.State = StateFailed
		}
	}
	if running {
		status.State = StateRunning
	}
	return status
}
