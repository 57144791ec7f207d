package reconcile

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func TestLabels(t *testing.T) {
	const tier, rank = "node-restriction.kubernetes.io/tier", "node-restriction.kubernetes.io/rank"
	worker := cluster.Statement{Cluster: "demo", Node: "w1", Role: "worker", Labels: map[string]string{tier: "secure", rank: "1"}}
	spoilt := cluster.Statement{Cluster: "demo", Node: "w1", Role: "worker", Labels: map[string]string{tier: "not a value", rank: "1"}}
	tests := []struct {
		name string
		// registration is the annotation, labels those that the Node has.
		registration string
		labels       map[string]string
		sign         *cluster.Statement
		// want are the labels that it ends up with, event the warning and its reason.
		want, reason, event string
	}{
		{name: "all is missing", sign: &worker, labels: map[string]string{"mine": "yes"},
			want: "mine=yes, " + rank + "=1, " + tier + "=secure, node-role.kubernetes.io/worker="},
		{name: "somebody has set another value", sign: &worker, labels: map[string]string{tier: "open"},
			want: rank + "=1, " + tier + "=open, node-role.kubernetes.io/worker="},
		{name: "not signed", registration: "e30.e30", labels: map[string]string{"mine": "yes"},
			want: "mine=yes", reason: "RegistrationRefused", event: "has not signed it"},
		{name: "one label is bad", sign: &spoilt,
			want: rank + "=1, node-role.kubernetes.io/worker=", reason: "LabelRefused", event: "label " + tier + " was refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.sign != nil {
				tt.registration = w.sign(t, *tt.sign)
			}
			w.put("w1", tt.labels, map[string]string{annotationRegistration: tt.registration})
			w.put("stranger", map[string]string{"theirs": "yes"}, nil)
			c := w.controlPlane()
			c.start(t)
			w.eventually("labels and event", func() bool {
				return w.metadata("w1", "labels") == tt.want && strings.Contains(w.event("w1", tt.reason), tt.event)
			})
			w.quiet("w2")
			before := len(w.writes())
			// A restart of the kubelet, and a new Node: looked at again, and nothing is written about what is known.
			w.put("stranger", map[string]string{"theirs": "still"}, nil)
			w.quiet("w3")
			if got := w.writes()[before:]; !slices.Equal(got, []string{"PATCH /api/v1/nodes/w3"}) {
				t.Errorf("have writes %q", got)
			}
			if w.metadata("w1", "labels") != tt.want || w.metadata("stranger", "labels") != "theirs=still" {
				t.Errorf("have labels %s, %s", w.metadata("w1", "labels"), w.metadata("stranger", "labels"))
			}
			if n := strings.Count(c.log.String(), "node w1: "); n != strings.Count(tt.want, "node-role")+strings.Count(tt.reason, "Refused") {
				t.Errorf("have log\n%s", c.log)
			}
		})
	}
}

func TestANodeThatComesBackIsRegisteredAnew(t *testing.T) {
	w := newWorld(t)
	w.controlPlane().start(t)
	for _, uid := range []string{"first", "second"} {
		statement := w.sign(t, cluster.Statement{Cluster: "demo", Node: "w-${serial}", Pool: "p", Role: "worker"})
		w.server.Put(nodePath("w-7"), map[string]any{"metadata": map[string]any{"name": "w-7", "uid": uid, "labels": map[string]any{},
			"annotations": map[string]any{annotationRegistration: statement}}})
		w.eventually("the role of "+uid, func() bool { return w.metadata("w-7", "labels") == "node-role.kubernetes.io/worker=" })
	}
}

func TestTwoControlPlanesDoTheSame(t *testing.T) {
	w := newWorld(t)
	twins := map[string]string{annotationMachine: `{"macs":["52:54:00:12:34:56"]}`}
	w.put("a", nil, twins)
	w.put("b", nil, twins)
	for _, name := range []string{"w1", "w2", "w3"} {
		w.put(name, nil, map[string]string{annotationRegistration: w.sign(t, cluster.Statement{Cluster: "demo", Node: name, Role: "worker"})})
	}
	both := []controlPlane{w.controlPlane(), w.controlPlane()}
	for _, c := range both {
		c.Pace.Renew = 30 * time.Millisecond // all is looked at from the beginning, over and over
		c.start(t)
	}
	w.eventually("everything", func() bool {
		for _, name := range []string{"w1", "w2", "w3"} {
			if w.metadata(name, "labels") != "node-role.kubernetes.io/worker=" {
				return false
			}
		}
		return strings.HasPrefix(w.condition("a"), "False") && strings.HasPrefix(w.condition("b"), "False") && w.event("b", reasonDuplicate) != ""
	})
	again := func() {
		w.server.StopWatches()
		for _, c := range both {
			c.waitForRound(w)
		}
	}
	again()
	before := w.writes()
	again()
	if after := w.writes(); len(after) != len(before) {
		t.Errorf("wrote again: %q", after[len(before):])
	}
	// Each of the two may do everything, and begin with a Node again after its look was cut short.
	if len(before) > 3*2*(3+2+2) {
		t.Errorf("have %d writes: %q", len(before), before)
	}
}

func TestDuplicatesAreNamedAndTakenBack(t *testing.T) {
	w := newWorld(t)
	same := map[string]string{annotationMachine: `{"macs":["52:54:00:12:34:56"],"uuid":"03000200-0400-0500-0006-000700080009"}`}
	other := map[string]string{annotationMachine: `{"macs":["52:54:00:12:34:57"],"uuid":"03000200-0400-0500-0006-000700080009"}`}
	ready := map[string]any{"type": "Ready", "status": "True"}
	w.put("a", nil, same, ready)
	w.put("b", nil, same, ready)
	w.put("c", nil, other, ready)
	c := w.controlPlane()
	c.start(t)
	w.eventually("conditions", func() bool {
		return strings.HasPrefix(w.condition("a"), "False DuplicateMachine MAC address 52:54:00:12:34:56 is also that of b;") &&
			strings.HasPrefix(w.condition("b"), "False DuplicateMachine MAC address 52:54:00:12:34:56 is also that of a;") &&
			strings.Contains(w.event("a", reasonDuplicate), "52:54:00:12:34:56") && w.event("b", reasonDuplicate) != ""
	})
	if w.condition("c") != "" {
		t.Errorf("c has %s", w.condition("c"))
	}
	w.delete("b")
	w.eventually("a is alone", func() bool { return strings.HasPrefix(w.condition("a"), "True UniqueMachine") })
}

func TestNodesThatHaveLeft(t *testing.T) {
	long := "2026-11-21T10:00:00Z"
	left := map[string]string{AnnotationLeft: long}
	ready := func(status, since string) map[string]any {
		return map[string]any{"type": "Ready", "status": status, "lastTransitionTime": since}
	}
	tests := []struct {
		name        string
		labels      map[string]string
		annotations map[string]string
		condition   map[string]any
		patience    time.Duration
		deleted     bool
	}{
		{"not ready", nil, left, ready("Unknown", long), time.Hour, true},
		{"still looks alive", nil, left, ready("True", "2026-11-20T10:00:00Z"), time.Hour, false},
		{"looks alive for too long", nil, left, ready("True", "2026-11-20T10:00:00Z"), 0, true},
		{"came back", nil, left, ready("True", "2026-11-21T10:05:00Z"), 0, false},
		{"never said so", nil, nil, ready("False", long), 0, false},
		{"a control plane", map[string]string{controlPlaneLabel: ""}, left, ready("False", long), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.put("w1", tt.labels, tt.annotations, tt.condition)
			c := w.controlPlane()
			c.Pace.Left = tt.patience
			c.start(t)
			if tt.deleted {
				w.eventually("w1 is gone", func() bool { return w.server.Object(nodePath("w1")) == nil })
				return
			}
			w.quiet("w2")
			c.waitForRound(w)
			if w.server.Object(nodePath("w1")) == nil {
				t.Errorf("w1 was deleted:\n%s", c.log)
			}
		})
	}
}

func TestAPIServerThatIsDown(t *testing.T) {
	w := newWorld(t)
	var down atomic.Bool
	down.Store(true)
	var asked atomic.Int32
	w.server.Fail(func(string, string) int {
		if down.Load() {
			asked.Add(1)
			return 403 // not one that the client asks again for by itself
		}
		return 0
	})
	c := w.controlPlane()
	c.start(t)
	w.eventually("several questions", func() bool { return asked.Load() > 4 })
	down.Store(false)
	w.quiet("w1")
	text := c.log.String()
	if strings.Count(text, "trying again until it works") != 1 || strings.Count(text, asking+": it works again") != 1 {
		t.Errorf("have log\n%s", text)
	}
}

func TestWaitsForTheFirstBoot(t *testing.T) {
	w := newWorld(t)
	c := w.controlPlane()
	var looked atomic.Int32
	var booted atomic.Bool
	c.FirstBootDone = func() bool { looked.Add(1); return booted.Load() }
	c.start(t)
	w.eventually("some looks", func() bool { return looked.Load() > 3 })
	if got := w.server.Requests(); len(got) > 0 {
		t.Errorf("asked before: %q", got)
	}
	booted.Store(true)
	w.quiet("w1")
}

func TestOnAWorkerThereIsNothingToDo(t *testing.T) {
	w := newWorld(t)
	c := w.controlPlane()
	put(t, c.root, nodefs.Node, []byte(`{"role": "worker"}`))
	if err := c.Run(t.Context()); err != nil || c.log.String() != "" {
		t.Errorf("have %v\n%s", err, c.log)
	}
	put(t, c.root, nodefs.Node, []byte(`{`))
	if err := c.Run(t.Context()); err == nil {
		t.Error("an image that does not know itself is none of an error")
	}
}
