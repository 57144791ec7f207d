package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kiln-os/kiln/firstboot/install"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/step"
)

// longestPause is the most that a failed step is waited with before it runs again.
const longestPause = time.Minute

// Run does the first boot, or what is left of it, and says what becomes of it, an error included. Done once, it does
// nothing. It ends with an error only when no retry can mend it (IsPermanent), when ctx ends, or when the journal cannot be
// written; steps that time can mend are run again for ever, and say so.
func (m *Machine) Run(ctx context.Context) error {
	err := m.run(ctx)
	if err != nil {
		m.Report.say(event{step: whole, state: failed, message: err.Error(), failed: true, finished: true})
		m.Report.status("first boot failed: %s", err)
	}
	return err
}

func (m *Machine) run(ctx context.Context) error {
	journal, err := openJournal(m.Root.Path(nodefs.Journal))
	if err != nil {
		return err
	}
	defer journal.close()
	if journal.has(whole, done) {
		m.Report.say(event{step: whole, message: "was completed before; nothing to do"})
		m.Report.ready()
		return nil
	}
	r := &runner{m: m, journal: journal}
	if err := r.all(ctx); err != nil || r.installed {
		return err
	}
	seconds := took(journal.records)
	if err := r.note(record{Step: whole, State: done, Seconds: seconds}); err != nil {
		return err
	}
	m.Report.say(event{step: whole, state: done, seconds: seconds, finished: true, message: fmt.Sprintf("completed in %.1f s", seconds)})
	m.Report.status("first boot completed in %.1f s", seconds)
	m.Report.ready()
	return nil
}

// runner runs steps and writes down what becomes of them.
type runner struct {
	m       *Machine
	journal *stepJournal
	// plan is nil until there is an identity.
	plan *plan
	// installer is set when the machine installs itself instead of joining a cluster; installed, when it has.
	installer *install.Installer
	installed bool
}

// errRenewed says that the identity's source has another token than the one that was refused: all begins anew with it.
var errRenewed = errors.New("the identity was renewed")

func (r *runner) all(ctx context.Context) error {
	for {
		err := r.once(ctx)
		if !errors.Is(err, errRenewed) {
			return err
		}
		r.m.Report.say(event{step: whole, message: "the identity has a new token; beginning anew with it"})
	}
}

func (r *runner) once(ctx context.Context) error {
	if p := r.forgetting(); p != nil {
		r.plan = p
		return r.do(ctx, p.forgetStep())
	}
	if err := r.do(ctx, identityStep(r.identify)); err != nil {
		return err
	}
	if r.installer != nil {
		return r.install(ctx, r.installer)
	}
	if err := r.each(ctx, r.plan.preparation()); err != nil {
		return err
	}
	defer func() { r.plan.release() }()
	if r.plan.o.Identity.Node.Initialise {
		if err := r.do(ctx, fenceStep(r.plan.fence)); err != nil {
			return err
		}
	}
	return r.each(ctx, r.plan.clustering())
}

func (r *runner) each(ctx context.Context, list step.List) error {
	for _, s := range list {
		if err := r.do(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// forgetting is the plan of a node whose identity has lost its secrets already: all else is done.
func (r *runner) forgetting() *plan {
	if !r.journal.has("forget", began) {
		return nil
	}
	text, err := os.ReadFile(r.m.Root.Path(nodefs.IdentityCopy))
	if err != nil {
		return nil
	}
	if _, _, err := cluster.ParseIdentityOnNode(nodefs.IdentityCopy, text); err == nil {
		return nil
	}
	id, err := cluster.ReadScrubbed(text)
	if err != nil {
		return nil
	}
	return r.m.plan(image{}, found{id: id}, r.journal)
}

// identify finds the identity and makes the plan from it.
func (r *runner) identify(ctx context.Context) (string, error) {
	image, err := r.m.readImage()
	if err != nil {
		return "", err
	}
	f, err := r.m.findIdentity(ctx, image, r.journal)
	if r.m.nobody(err) {
		r.installer, err = r.m.installer(found{})
		return "there is none; the installed system will look for its own", err
	}
	if err != nil {
		return "", err
	}
	r.m.Report.redactor.learn(f.id)
	if r.installer, err = r.m.installer(f); err != nil {
		return "", err
	}
	r.plan = r.m.plan(image, f, r.journal)
	for _, warning := range f.warnings {
		r.m.Report.say(event{step: "identity", message: "warning: " + warning})
	}
	return fmt.Sprintf("%s, %s, from %s", f.id.Node.Name, f.id.Node.Role, f.from), r.m.saveCopy(f)
}

func (m *Machine) plan(i image, f found, journal *stepJournal) *plan {
	return &plan{
		m:        m,
		o:        kubeadm.Options{Baked: i.baked, Profile: i.profile, Identity: f.id},
		machine:  f.machine,
		warnings: f.warnings,
		done:     func(step string) bool { return journal.has(step, done) },
		began:    func(step string) bool { return journal.has(step, began) },
		history:  func() []record { return journal.records },
	}
}

// do runs s until it is done or cannot be done.
func (r *runner) do(ctx context.Context, s step.Step) error {
	if err := r.note(record{Step: s.Name, State: began}); err != nil {
		return err
	}
	r.m.Report.status("%s: %s", s.Name, s.Does)
	last := ""
	for pause := r.m.Pause; ; pause = min(2*pause, longestPause) {
		start := time.Now()
		text, err := s.Run(ctx)
		seconds := time.Since(start).Seconds()
		if err == nil {
			r.m.Report.say(event{step: s.Name, state: done, seconds: seconds, message: fmt.Sprintf("%s (%.2f s)", text, seconds)})
			return r.note(record{Step: s.Name, State: done, Seconds: seconds, Note: text})
		}
		if errors.Is(err, errRenewed) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("step %s was interrupted: %w", s.Name, context.Cause(ctx))
		}
		// The same failure again is news for the console only: a node that waits for weeks must not fill its disk.
		if err.Error() != last {
			last = err.Error()
			if noteErr := r.note(record{Step: s.Name, State: failed, Seconds: seconds, Error: last}); noteErr != nil {
				return errors.Join(err, noteErr)
			}
			if r.plan != nil {
				r.plan.confess(ctx, s.Name, err)
			}
		}
		if IsPermanent(err) {
			return fmt.Errorf("step %s cannot be done: %w", s.Name, err)
		}
		r.m.Report.say(event{step: s.Name, state: failed, seconds: seconds, failed: true, message: fmt.Sprintf("%s; again in %s", err, pause)})
		r.m.Report.status("%s failed and will run again: %s", s.Name, err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("step %s was interrupted: %w", s.Name, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// note writes rec to the journal, without secrets.
func (r *runner) note(rec record) error {
	rec.Time, rec.BootID, rec.Uptime = r.m.Now(), r.m.bootID(), r.m.Uptime()
	rec.Note, rec.Error = r.m.Report.redactor.text(rec.Note), r.m.Report.redactor.text(rec.Error)
	return r.journal.append(rec)
}
