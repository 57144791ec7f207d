//go:build cluster

package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/test/rung"
)

// TestPowerCuts cuts the power of a founder, of a control plane that joins and of a worker in every step of their first
// boots, one cut after the other, all three at the same time. The load balancer is away at first: it refuses, and then it
// is silent. The certificates are uploaded ones. On the cluster that comes of it, machines come late.
func TestPowerCuts(t *testing.T) {
	w := newWorld(t)
	all := members(2, 1)
	const uploaded = "certificates: uploaded\n"
	f := w.newFleet(t, "cuts", all, uploaded)
	f.balancer.Stop()
	steps := f.steps(t)
	founded := make(chan struct{})
	lives := map[string][]moment{
		"cp1": plan(steps["cp1"], extra{
			"kubeadm-init": {etcdStarted(), said(`^kubeadm-init: \[upload-config\]`)},
		}),
		"cp2": plan(steps["cp2"], extra{"kubeadm-join": {said(`^kubeadm-join: \[control-plane\]`), etcdStarted(), said(`^kubeadm-join: \[mark-control-plane\]`)}}),
		"worker1": plan(steps["worker1"], extra{
			"endpoint": {
				said(`^endpoint: nobody listens at .* \(connection refused\)`).and(func(ctx context.Context) error {
					return errors.Join(f.balancer.Start(), f.balancer.Drop(ctx))
				}),
				said(`^endpoint: .* (did not answer within|takes connections and says nothing)`).and(func(ctx context.Context) error {
					return f.passAfter(ctx, founded)
				}),
			},
			"kubeadm-join": {said(`^kubeadm-join: \[kubelet-start\]`)},
		}),
	}
	// The founder's Node cannot be Ready before the balancer is there: kube-proxy goes through it.
	at := slices.IndexFunc(lives["cp1"], func(m moment) bool { return m.step == "ready" })
	lives["cp1"][at].then = func(context.Context) error { close(founded); return nil }
	f.powerOn(t)
	f.liveThrough(t, lives)
	eventually(t, "all Ready", 8*time.Minute, f.allReady(f.names...))
	f.mustBeWhole(t, all)
	eventually(t, "the founder forgets the certificate key when all are in", 2*time.Minute, func(context.Context) error {
		if _, err := os.Stat(f.machines["cp1"].OnDisk(nodefs.CertificateKeyConfig)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("it still has it (%v)", err)
		}
		return nil
	})
	f.mustHoldNoSecrets(t)
	f.testLate(t, uploaded)
}

// passAfter ends the balancer's silence when the cluster was founded without it, and it was away for long enough.
func (f *fleet) passAfter(ctx context.Context, founded chan struct{}) error {
	away := time.After(absence)
	select {
	case <-founded:
	case <-ctx.Done():
		return fmt.Errorf("waiting for a cluster that is founded without its balancer: %w", context.Cause(ctx))
	}
	select {
	case <-away:
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to pass: %w", absence, context.Cause(ctx))
	}
	return f.balancer.Pass(ctx)
}

// steps asks every machine which steps its first boot has. Its disk is empty afterwards, and it is off.
func (f *fleet) steps(t *testing.T) map[string][]string {
	t.Helper()
	listed := regexp.MustCompile(`(?m)^ *\d+  (\S+)`)
	steps := map[string][]string{}
	f.powerOn(t)
	for _, name := range f.names {
		out, err := f.machines[name].Exec(t.Context(), "firstboot", "run", "--dry-run")
		must(t, err)
		for _, match := range listed.FindAllStringSubmatch(out, -1) {
			steps[name] = append(steps[name], match[1])
		}
		if s := steps[name]; len(s) < 12 || s[0] != "identity" || s[len(s)-1] != "forget" {
			t.Fatalf("the steps of %s are %q, of\n%s", name, s, out)
		}
	}
	f.powerOff(t)
	f.each(t, nil, (*rung.Node).Wipe)
	return steps
}

// moment is one at which the power is cut.
type moment struct {
	name string
	// step is set when it is the beginning of a step.
	step string
	// now tells whether it has come; it is asked every few milliseconds while the machine is on.
	now func(*rung.Node) bool
	// then, if not nil, is done while the machine is off.
	then func(context.Context) error
}

// and does something while the machine is off.
func (m moment) and(then func(context.Context) error) moment {
	m.then = then
	return m
}

// begun is when firstboot's journal on the disk says that a step has begun in this boot.
func begun(step string) moment {
	var size int64 // of the journal when it was read last
	return moment{name: "in " + step, step: step, now: func(n *rung.Node) bool {
		info, err := os.Stat(n.OnDisk(nodefs.Journal))
		if err != nil || info.Size() == size {
			return false
		}
		text, _ := os.ReadFile(n.OnDisk(nodefs.Journal))
		size = int64(len(text))
		for line := range strings.Lines(string(text)) {
			var r struct{ BootID, Step, State string }
			if json.Unmarshal([]byte(line), &r) == nil && r.BootID == n.BootID() && r.Step == step && r.State == "began" {
				return true
			}
		}
		return false
	}}
}

// said is when the console of this boot has a line.
func said(pattern string) moment {
	line := regexp.MustCompile(pattern)
	return moment{name: "at " + pattern, now: func(n *rung.Node) bool {
		time.Sleep(30 * time.Millisecond) // a console is read every tenth of a second
		return shows(n, line)
	}}
}

// etcdStarted is when etcd has a write-ahead log: from then on, its data counts.
func etcdStarted() moment {
	return moment{name: "when etcd has a log", now: func(n *rung.Node) bool {
		logs, _ := filepath.Glob(n.OnDisk(nodefs.EtcdData) + "/*/member/wal/*.wal")
		return len(logs) > 0
	}}
}

// extra are moments within a step, in the order in which they come, by the step's name.
type extra map[string][]moment

// plan cuts every step, and after the cut in a step at the extra moments within it.
func plan(steps []string, more extra) []moment {
	var all []moment
	for _, step := range steps {
		all = append(append(all, begun(step)), more[step]...)
		delete(more, step)
	}
	for step := range more {
		panic("there is no step " + step) // a test that means a step that was renamed
	}
	return all
}

// liveThrough cuts the power of all machines in all moments of their lives, at the same time, and leaves them on.
func (f *fleet) liveThrough(t *testing.T, lives map[string][]moment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), absence+12*time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for name, moments := range lives {
		group.Go(func() {
			for i, m := range moments {
				begin := time.Now()
				err := await(ctx, f.machines[name], m)
				if last := len(moments) - i; errors.Is(err, errThrough) && last <= 2 {
					t.Logf("%s was through before it could be cut off %s", name, m.name)
					return
				}
				if err != nil {
					t.Errorf("cutting the power of %s %s: %v", name, m.name, err)
					cancel() // the others may wait for this one
					return
				}
				t.Logf("%s was cut off %s, after %.1f s", name, m.name, time.Since(begin).Seconds())
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// errThrough says that a first boot is over. Its last two steps take milliseconds: both may be over within one look.
var errThrough = errors.New("its first boot is over")

// slowMotion stops firstboot for each look: many steps are over faster than a machine can be looked at and switched off.
type slowMotion struct {
	n *rung.Node
	// program is firstboot's, by a handle that never means another process; nil while it does not run.
	program *os.Process
}

const (
	// slice is the processor time that firstboot has between two looks: at most one step is done in it.
	slice = 200 * time.Microsecond
	// idle is how long it may take to use it up. One that waits for something is let wait, and one that waits for a processor
	// of a busy host gets it: by the clock alone, it would be stopped again before its turn.
	idle = 20 * time.Millisecond
)

func (s *slowMotion) stop() {
	if s.program != nil && s.program.Signal(syscall.SIGSTOP) == nil {
		return
	}
	s.program = nil
	if pid := s.n.Service(nodefs.Firstboot, "run"); pid != 0 {
		if program, err := os.FindProcess(pid); err == nil && program.Signal(syscall.SIGSTOP) == nil {
			s.program = program
		}
	}
}

// run lets it run for a slice.
func (s *slowMotion) run() {
	if s.program == nil {
		time.Sleep(4 * time.Millisecond)
		return
	}
	before, begin := processorTime(s.program.Pid), time.Now()
	_ = s.program.Signal(syscall.SIGCONT)
	for time.Since(begin) < idle {
		time.Sleep(500 * time.Microsecond)
		if processorTime(s.program.Pid)-before >= slice {
			return
		}
	}
}

// processorTime is what the threads of a process have had of the processors, see sched-stats in the kernel's documentation.
func processorTime(pid int) (sum time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range threads {
		text, _ := os.ReadFile(path)
		ran, _, _ := strings.Cut(string(text), " ")
		nanoseconds, _ := strconv.ParseInt(ran, 10, 64)
		sum += time.Duration(nanoseconds)
	}
	return sum
}

// await waits for a moment, cuts the power, and powers the machine on again.
func await(ctx context.Context, n *rung.Node, m moment) error {
	slow := slowMotion{n: n}
	for looks, through := 0, false; ; looks++ {
		if m.step != "" {
			slow.stop()
		}
		switch {
		case m.now(n):
			return m.cut(ctx, n)
		case through:
			return fmt.Errorf("%w; it says:\n%s", errThrough, n.Console().Last(5))
		case !n.Running():
			return errors.New("it went off by itself")
		case ctx.Err() != nil:
			return fmt.Errorf("it did not come so far: %w; it says:\n%s", context.Cause(ctx), n.Console().Last(5))
		}
		slow.run()
		through = looks%100 == 99 && shows(n, bootDone)
	}
}

// cut cuts the power and powers the machine on again.
func (m moment) cut(ctx context.Context, n *rung.Node) error {
	if err := n.PowerOff(); err != nil {
		return err
	}
	if m.then != nil {
		if err := m.then(ctx); err != nil {
			return err
		}
	}
	return n.PowerOn(ctx)
}
