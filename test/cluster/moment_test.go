//go:build cluster

package cluster_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kiln-os/kiln/firstboot/etcd"
	"github.com/kiln-os/kiln/firstboot/kubeadm"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/test/rung"
)

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

// etcdBegan is when etcd makes its write-ahead log.
func etcdBegan() moment {
	return moment{name: "when etcd makes a log", now: func(n *rung.Node) bool { return len(etcdLogs(n)) > 0 }}
}

// etcdStarted is when etcd's log has an entry: from then on, its data counts.
func etcdStarted() moment {
	return moment{name: "when etcd has a log", now: func(n *rung.Node) bool { return etcd.TookPart(n.OnDisk(kubeadm.EtcdData)) }}
}

func etcdLogs(n *rung.Node) []string {
	logs, _ := filepath.Glob(n.OnDisk(kubeadm.EtcdData) + "/member/wal/*.wal")
	return logs
}

// beforeItsFirstEntry takes from a founder's disk what came in the milliseconds after etcd had made its log: the cut was that
// much earlier. An etcd that finds such a log is a member of nobody, and waits for ever.
func (f *fleet) beforeItsFirstEntry(name string) func(context.Context) error {
	return func(context.Context) error {
		n := f.machines[name]
		logs := etcdLogs(n)
		if len(logs) != 1 {
			return fmt.Errorf("%s has the logs %q", name, logs)
		}
		records, err := os.ReadFile(logs[0])
		if err != nil {
			return err
		}
		size, begun := int64(len(records)), int64(0)
		for range 3 { // a checksum, metadata, a snapshot of nothing: each with its length and what fills it up
			if begun+8 > size {
				return fmt.Errorf("%s has a log of %d bytes", name, size)
			}
			frame := binary.LittleEndian.Uint64(records[begun:])
			begun += 8 + int64(frame&(1<<56-1)) + int64(frame>>56&7)
		}
		if err := errors.Join(os.Truncate(logs[0], begun), os.Truncate(logs[0], size), os.RemoveAll(n.OnDisk(kubeadm.EtcdData)+"/member/snap/db")); err != nil {
			return err
		}
		if etcd.TookPart(n.OnDisk(kubeadm.EtcdData)) {
			return fmt.Errorf("%s still has an entry in its log", name)
		}
		return nil
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
