package bootstrap

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

type criImageType = cri.Image

// authoritiesOf has texts that tell the parts apart; name begins each.
func authoritiesOf(name string) *cluster.Authorities {
	pair := func(part string) cluster.KeyPair {
		return cluster.KeyPair{Certificate: name + "-" + part + "c", Key: document.NewSecret(name + "-" + part + "k")}
	}
	return &cluster.Authorities{Cluster: pair("c"), FrontProxy: pair("f"), Etcd: pair("e"),
		ServiceAccount: cluster.ServiceAccountKey{Public: name + "-sp", Key: document.NewSecret(name + "-sk")}}
}

func TestStepNames(t *testing.T) {
	before := []string{"identity", "hostname", "clock", "network", "network-config", "preflight", "container-images"}
	after := []string{"register", "ready", "outcome", "forget"}
	list := func(middle ...string) []string { return slices.Concat(before, middle, after) }
	certificate := &cluster.Authorities{Cluster: cluster.KeyPair{Certificate: "x"}}
	tests := []struct {
		name   string
		role   string
		begins bool
		founds bool
		staged *cluster.Authorities
		want   []string
	}{
		{"founds a cluster", profile.ControlPlane, true, true, nil, list("fence", "kubeadm-config", "kubeadm-init", "addons", "record")},
		{"founds with authorities", profile.ControlPlane, true, true, authoritiesOf("x"), list("fence", "authorities", "kubeadm-config", "kubeadm-init", "addons", "record")},
		{"founder that comes back", profile.ControlPlane, true, false, authoritiesOf("x"), list("fence", "authorities", "endpoint", "kubeadm-config", "kubeadm-join")},
		{"control plane, staged", profile.ControlPlane, false, false, authoritiesOf("x"), list("authorities", "endpoint", "kubeadm-config", "kubeadm-join")},
		{"control plane, uploaded", profile.ControlPlane, false, false, certificate, list("endpoint", "kubeadm-config", "kubeadm-join")},
		{"worker", profile.Worker, false, false, certificate, list("endpoint", "kubeadm-config", "kubeadm-join")},
	}
	for _, tt := range tests {
		id := cluster.Identity{Node: cluster.Node{Role: tt.role, Initialise: tt.begins}, Bootstrap: cluster.Bootstrap{Authorities: tt.staged}}
		p := (&Machine{}).plan(image{}, found{id: id}, &stepJournal{})
		p.founds = tt.founds
		if got := p.list().Names(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: have %q, want %q", tt.name, got, tt.want)
		}
		for _, s := range slices.Concat(p.preparation(), p.clustering()) {
			if s.Does == "" || s.Run == nil {
				t.Errorf("%s: step %s does nothing", tt.name, s.Name)
			}
		}
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t)
	var out bytes.Buffer
	if err := w.m.DryRun(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" 1  identity ", " 9  kubeadm-config ", "16  forget", "token: '[redacted]'", "advertiseAddress: 10.0.2.15", "cp1, from test source"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), token[7:]) {
		t.Errorf("shows the token:\n%s", &out)
	}
	if len(w.ran) != 0 || exists(w.root.Path(nodefs.Journal)) || exists(w.root.Path(nodefs.IdentityCopy)) {
		t.Error("changed something")
	}
}

func TestStatus(t *testing.T) {
	line := func(step, state string) string {
		return `{"time":"2026-11-21T09:00:00Z","bootID":"b","uptime":1,"step":"` + step + `","state":"` + state + `","error":"e"}` + "\n"
	}
	tests := []struct {
		name, journal string
		running       bool
		want          string
		steps         string
	}{
		{"never ran", "", false, StatePending, ""},
		{"at work", line("identity", began) + line("identity", done) + line("network", began), true, StateRunning, "identity:done network:running"},
		{"failing, but at it", line("identity", began) + line("identity", failed), true, StateRunning, "identity:failed"},
		{"given up", line("identity", began) + line("identity", failed), false, StateFailed, "identity:failed"},
		{"cut off", line("identity", began) + line("identity", done) + line("network", began), false, StatePending, "identity:done network:pending"},
		{"over", line("identity", done) + line(whole, done), false, StateDone, "identity:done"},
	}
	for _, tt := range tests {
		status := statusOf(parseRecords([]byte(tt.journal)), tt.running)
		var steps []string
		for _, s := range status.Steps {
			steps = append(steps, s.Name+":"+s.State)
		}
		if status.State != tt.want || strings.Join(steps, " ") != tt.steps {
			t.Errorf("%s: have %s, %q; want %s, %q", tt.name, status.State, steps, tt.want, tt.steps)
		}
		if (status.Finished != nil) != (tt.want == StateDone) {
			t.Errorf("%s: finished %v", tt.name, status.Finished)
		}
	}
}

func TestStatusWithoutAJournal(t *testing.T) {
	w := newWorld(t)
	status, err := ReadStatus(w.root)
	if err != nil || status.State != StatePending || status.Version != "v1.36.3-4f1c2ab0" || len(status.Steps) != 0 {
		t.Errorf("have %+v, %v", status, err)
	}
}

func TestTimesOfBoots(t *testing.T) {
	records := []record{{BootID: "a", Uptime: 10, Step: "identity", State: began}, {BootID: "a", Uptime: 12, Step: "identity", State: done, Seconds: 2},
		{BootID: "b", Uptime: 5, Step: "network", State: began}, {BootID: "b", Uptime: 8.5, Step: "network", State: done, Seconds: 3.5}}
	if got := summary(records); got != "first boot took 5.5 s (identity 2.00, network 3.50)" {
		t.Errorf("have %q", got)
	}
}

func TestRedactor(t *testing.T) {
	r := redactor{}
	id := cluster.Identity{}
	id.Bootstrap.Token = document.NewSecret(token)
	id.Bootstrap.Authorities = authoritiesOf("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n")
	r.learn(id)
	tests := map[string]string{
		"--token " + token + " \\":       "--token [redacted] \\",
		"the secret " + token[7:]:        "the secret [redacted]",
		"other zzzzzz.yyyyyyyyyyyyyyyy.": "other [redacted].",
		"x MIGHAgEAMBMGByqGSM49AgEG":     "x [redacted]",
		"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- y": "[redacted] y",
		"--certificate-key " + strings.Repeat("ab", 32):                         "--certificate-key [redacted]",
		"--discovery-token-ca-cert-hash sha256:" + strings.Repeat("ab", 32):     "--discovery-token-ca-cert-hash sha256:" + strings.Repeat("ab", 32),
	}
	for text, want := range tests {
		if got := r.text(text); got != want {
			t.Errorf("have %q, want %q", got, want)
		}
	}
}

func TestJournalEntries(t *testing.T) {
	type entry struct {
		message string
		fields  map[string]string
	}
	var entries []entry
	r := &Report{Out: &bytes.Buffer{}, Journal: func(message string, _ journal.Priority, fields map[string]string) {
		entries = append(entries, entry{message, fields})
	}}
	r.say(event{step: "network", message: "waiting for " + token})
	r.say(event{step: whole, state: done, seconds: 1.5, message: "completed", finished: true})
	r.StatesOnly = true
	r.say(event{step: "network", message: "left out"})
	if len(entries) != 2 || entries[0].message != "network: waiting for [redacted]" || entries[0].fields["KILN_STATE"] != "" {
		t.Fatalf("have %+v", entries)
	}
	for field, want := range map[string]string{"KILN_STEP": whole, "KILN_STATE": "done", "KILN_SECONDS": "1.500", "MESSAGE_ID": MessageFinished, "SYSLOG_IDENTIFIER": "firstboot"} {
		if entries[1].fields[field] != want {
			t.Errorf("%s is %q, want %q", field, entries[1].fields[field], want)
		}
	}
}

func TestLinesAreWhole(t *testing.T) {
	var out bytes.Buffer
	l := &lines{report: &Report{Out: &out}, step: "s"}
	for _, piece := range []string{"on", "e\ntw", "o\n\nthr", "ee " + token[:10], token[10:]} {
		if _, err := l.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	l.flush()
	if want := "s: one\ns: two\ns: three [redacted]\n"; out.String() != want {
		t.Errorf("have %q, want %q", out.String(), want)
	}
}
