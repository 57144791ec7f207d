package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/nodefs"
)

// marks are a boot's milestones, since power-on, and what it took of this machine.
type marks struct {
	initBegins, initEnds time.Duration
	// firstJoin and lastJoin are zero in a cluster of one.
	firstJoin, lastJoin time.Duration
	ready               time.Duration
	// memory is by how much the available memory went down; busy is in percent of all processors, until Ready.
	memory int64
	busy   float64
	// own is of every node, the founder's first; of kiln's side only.
	own []ownSteps
}

// ownSteps are what firstboot did on a node beside running kubeadm and waiting for what others do.
type ownSteps struct {
	node string
	sum  time.Duration
	text string
}

// bootKiln powers the machines on and waits until all are Ready; then until firstboot is done everywhere.
func (f *fleet) bootKiln(ctx context.Context) (marks, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	watch := watchMachine()
	begin := time.Now()
	if err := f.powerOn(ctx); err != nil {
		return marks{}, err
	}
	err := f.ready(ctx, f.members...)
	m := marks{ready: time.Since(begin)}
	m.memory, m.busy = watch()
	if err != nil {
		return m, err
	}
	for i, node := range f.members {
		var records []journalRecord
		err := eventually(ctx, func() (err error) {
			records, err = f.journal(node)
			if _, done := find(records, "first-boot", "done"); err == nil && !done {
				err = fmt.Errorf("the first boot of %s is not done", node.Node.Name)
			}
			return err
		})
		if err != nil {
			return m, err
		}
		m.add(i == 0, records, begin)
		m.own = append(m.own, ownOf(node.Node.Name, records))
	}
	return m, nil
}

// add takes in when a node's kubeadm began and ended.
func (m *marks) add(founder bool, records []journalRecord, begin time.Time) {
	if founder {
		first, _ := find(records, "kubeadm-init", "began")
		last, _ := find(records, "kubeadm-init", "done")
		m.initBegins, m.initEnds = first.Time.Sub(begin), last.Time.Sub(begin)
		return
	}
	first, _ := find(records, "kubeadm-join", "began")
	last, _ := find(records, "kubeadm-join", "done")
	m.join(first.Time.Sub(begin), last.Time.Sub(begin))
}

// join takes in when a join began and ended.
func (m *marks) join(began, ended time.Duration) {
	if m.firstJoin == 0 || began < m.firstJoin {
		m.firstJoin = began
	}
	m.lastJoin = max(m.lastJoin, ended)
}

// journalRecord is what is read of a line of firstboot's journal.
type journalRecord struct {
	Time        time.Time
	Step, State string
	Seconds     float64
}

func (f *fleet) journal(m member) ([]journalRecord, error) {
	text, err := os.ReadFile(f.disk(m, nodefs.Journal))
	if err != nil {
		return nil, err
	}
	var records []journalRecord
	for line := range bytes.Lines(text) {
		var r journalRecord
		if json.Unmarshal(line, &r) == nil { // the last line may be half written
			records = append(records, r)
		}
	}
	return records, nil
}

// find is the last record of a step in a state.
func find(records []journalRecord, step, state string) (found journalRecord, ok bool) {
	for _, r := range records {
		if r.Step == step && r.State == state {
			found, ok = r, true
		}
	}
	return found, ok
}

// ownOf adds the steps up that are not kubeadm's and do not wait for the cluster.
func ownOf(node string, records []journalRecord) ownSteps {
	own := ownSteps{node: node}
	var parts []string
	for _, r := range records {
		switch {
		case r.State != "done" || r.Step == "first-boot":
			continue
		case r.Step == "kubeadm-init", r.Step == "kubeadm-join", r.Step == "endpoint", r.Step == "ready":
			continue
		}
		own.sum += time.Duration(r.Seconds * float64(time.Second))
		if r.Seconds >= 0.1 {
			parts = append(parts, fmt.Sprintf("%s %.1f", r.Step, r.Seconds))
		}
	}
	own.text = strings.Join(parts, ", ")
	return own
}
