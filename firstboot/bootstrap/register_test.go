package bootstrap

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/node"
	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/internal/profile"
)

// labelled is a joined machine whose identity wants labels of every kind.
func labelled(t *testing.T, role string) *joiner {
	t.Helper()
	j := newJoiner(t, role)
	j.withKubelet()
	j.withControlPlane()
	j.registered("True")
	j.plan.o.Identity.Node.Labels = map[string]string{"example.org/rack": "r7", "node-restriction.kubernetes.io/tier": "pci"}
	j.plan.o.Identity.Node.Zone = "z1"
	j.plan.o.Identity.Node.Registration = "signed.statement"
	j.plan.machine = Facts{MACs: []string{"52:54:00:00:00:12"}, UUID: "4c4c4544"}
	return j
}

func (j *joiner) node() node.Node {
	j.t.Helper()
	c, err := node.NewClient(j.api.URL, j.api.Admin)
	if err != nil {
		j.t.Fatal(err)
	}
	n, err := c.Get(j.t.Context(), "n2")
	if err != nil {
		j.t.Fatal(err)
	}
	return n
}

func TestRegisterByRole(t *testing.T) {
	const restricted = "node-restriction.kubernetes.io/tier"
	tests := []struct {
		role       string
		restricted string
		taints     int
	}{
		{profile.ControlPlane, "pci", 1},
		{profile.Worker, "", 0}, // both are a control plane's to set
	}
	for _, tt := range tests {
		t.Run(tt.role, func(t *testing.T) {
			j := labelled(t, tt.role)
			j.plan.o.Profile.Taints = []profile.Taint{}
			for range 2 { // a run that was cut off does it again
				if _, err := j.plan.register(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			n := j.node()
			want := map[string]string{"example.org/rack": "r7", "topology.kubernetes.io/zone": "z1", labelProfile: "control-plane", labelRelease: "v1.36", restricted: tt.restricted}
			for key, value := range want {
				if n.Metadata.Labels[key] != value {
					t.Errorf("label %s is %q, want %q", key, n.Metadata.Labels[key], value)
				}
			}
			if len(n.Spec.Taints) != tt.taints {
				t.Errorf("have taints %v", n.Spec.Taints)
			}
			annotations := map[string]string{annotationVersion: "v1.36.3-4f1c2ab0", annotationRootHash: "4f1c", annotationRegistration: "signed.statement",
				annotationMachine: `{"macs":["52:54:00:00:00:12"],"uuid":"4c4c4544"}`}
			if !maps.Equal(n.Metadata.Annotations, annotations) {
				t.Errorf("have annotations %v", n.Metadata.Annotations)
			}
			if j.api.Object("/api/v1/namespaces/default/events/n2.registrationincomplete") != nil {
				t.Error("a warning without a reason")
			}
		})
	}
}

func TestOneBadLabelCostsAWarning(t *testing.T) {
	for _, role := range []string{profile.ControlPlane, profile.Worker} {
		t.Run(role, func(t *testing.T) {
			j := labelled(t, role)
			j.plan.warnings = []string{"node.labels.x y: is not a label's name; left out"}
			j.plan.o.Identity.Node.Labels["example.org/bad"] = "not allowed"
			if note, err := j.plan.register(t.Context()); err != nil || !strings.HasSuffix(note, ", 2 warnings") {
				t.Fatalf("have %q, %v", note, err)
			}
			if n := j.node(); n.Metadata.Labels["example.org/rack"] != "r7" || n.Metadata.Annotations[annotationVersion] == "" {
				t.Errorf("have %+v", n.Metadata)
			}
			event := j.api.Object("/api/v1/namespaces/default/events/n2.registrationincomplete")
			message, _ := event["message"].(string)
			if event["type"] != "Warning" || !strings.Contains(message, "node.labels.x y") || !strings.Contains(message, "label example.org/bad was refused") {
				t.Errorf("have %v", event)
			}
			if _, err := j.plan.outcome(t.Context()); err != nil {
				t.Fatal(err)
			}
			condition := j.node().Condition(ConditionType)
			for _, want := range []string{"first boot took", "\nwarning: node.labels.x y: is not", "\nwarning: the Node has no label example.org/bad=not allowed"} {
				if condition.Status != "True" || !strings.Contains(condition.Message, want) {
					t.Errorf("have %+v, want %q", condition, want)
				}
			}
		})
	}
}

func TestProviderIDOfALostMachine(t *testing.T) {
	j := labelled(t, profile.Worker)
	j.plan.o.Identity.Node.ProviderID = "metal://new"
	if _, err := j.plan.register(t.Context()); err != nil || j.node().Spec.ProviderID != "metal://new" {
		t.Fatalf("have %q, %v", j.node().Spec.ProviderID, err)
	}
	j.plan.o.Identity.Node.ProviderID = "metal://newer"
	if _, err := j.plan.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	texts := j.plan.lacking(j.node())
	if len(texts) != 1 || !strings.Contains(texts[0], `has the provider ID "metal://new", not "metal://newer"`) {
		t.Errorf("have %q", texts)
	}
}

func TestReadyAndConfessionOfAWorker(t *testing.T) {
	j := labelled(t, profile.Worker)
	j.m.APIServer = func(string) string { t.Error("a worker has no API server of its own"); return "" }
	if note, err := j.plan.ready(t.Context()); err != nil || note != "n2 is Ready" {
		t.Errorf("have %q, %v", note, err)
	}
	j.plan.confess(t.Context(), "ready", &node.StatusError{Code: 500, Message: strings.Repeat("é", 2000)})
	condition := j.node().Condition(ConditionType)
	if condition.Status != "False" || len(condition.Message) > mostOfMessage || !strings.HasSuffix(condition.Message, "é…") {
		t.Errorf("have %+v", condition)
	}
}

func TestRecord(t *testing.T) {
	founder := func(t *testing.T) *joiner {
		j := labelled(t, profile.ControlPlane)
		j.m.Now = func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }
		return j
	}
	tokens := func(j *joiner) map[string]string {
		data, _ := j.api.Object(recordPath)["data"].(map[string]any)
		text, _ := data["tokens"].(string)
		var have map[string]string
		if err := json.Unmarshal([]byte(text), &have); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if data["founder"] != "n2" || data["release"] != "v1.36" || data["kubernetes"] != "v1.36.3" || strings.Contains(text, token[7:]) {
			t.Errorf("have %v", data)
		}
		return have
	}
	secret := func(fields map[string]any) apitest.Object { return apitest.Object{"data": fields} }
	tests := []struct {
		name    string
		prepare func(j *joiner)
		want    map[string]string
	}{
		{"a token that ends", func(j *joiner) { // base64 of 2026-11-22T10:00:00Z
			j.api.Put("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", secret(map[string]any{"expiration": "MjAyNi0xMS0yMlQxMDowMDowMFo="}))
		}, map[string]string{"abcdef": "2026-11-22T10:00:00Z"}},
		{"a token for ever", func(j *joiner) {
			j.api.Put("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", secret(map[string]any{}))
		}, map[string]string{"abcdef": ""}},
		{"a token that is gone", func(*joiner) {}, map[string]string{"abcdef": "2026-11-21T12:00:00Z"}},
		{"tokens that were added", func(j *joiner) {
			j.api.Put(recordPath, apitest.Object{"metadata": map[string]any{"name": recordName}, "data": map[string]any{"tokens": `{"abcdef":"2026-01-01T00:00:00Z","zzzzzz":""}`}})
		}, map[string]string{"abcdef": "2026-01-01T00:00:00Z", "zzzzzz": ""}},
		{"a record in pieces", func(j *joiner) {
			j.api.Put(recordPath, apitest.Object{"metadata": map[string]any{"name": recordName}, "data": map[string]any{"tokens": `{`}})
		}, map[string]string{"abcdef": "2026-11-21T12:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := founder(t)
			tt.prepare(j)
			for range 2 {
				if _, err := j.plan.record(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if have := tokens(j); !maps.Equal(have, tt.want) {
				t.Errorf("have %v", have)
			}
			role := j.api.Object("/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/roles/kiln-public")
			binding := j.api.Object("/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public/rolebindings/kiln-public")
			if role["rules"] == nil || binding["subjects"] == nil {
				t.Errorf("have %v, %v", role, binding)
			}
		})
	}
}

func TestRecordDoesNotLoseATokenThatIsAddedMeanwhile(t *testing.T) {
	j := labelled(t, profile.ControlPlane)
	objects, err := j.plan.recordObjects(map[string]string{"abcdef": ""}, "7") // another version than the one that is there
	if err != nil {
		t.Fatal(err)
	}
	j.api.Put(recordPath, apitest.Object{"metadata": map[string]any{"name": recordName}, "data": map[string]any{"tokens": `{"zzzzzz":""}`}})
	client, err := j.plan.api()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Apply(t.Context(), objects[0]); !node.HasCode(err, http.StatusConflict) {
		t.Errorf("have %v", err)
	}
}

// kubeadm is done with a worker before its kubelet has made the Node: that is waited for, and is no failure.
func TestRegisterWaitsForTheNode(t *testing.T) {
	j := labelled(t, profile.Worker)
	asked := 0
	j.api.Fail(func(method, path string) int {
		if method == http.MethodGet && path == "/api/v1/nodes/n2" {
			if asked++; asked <= 3 {
				return http.StatusNotFound
			}
		}
		return 0
	})
	if _, err := j.plan.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	if label := j.node().Metadata.Labels["example.org/rack"]; asked <= 3 || label != "r7" {
		t.Errorf("after %d looks the Node has the rack %q", asked, label)
	}
}

// An API server that has just started forbids all until it has read its rules: no label is given up for that.
func TestRegisterWaitsForTheRules(t *testing.T) {
	j := labelled(t, profile.ControlPlane)
	asked := 0
	j.api.Fail(func(method, path string) int {
		if asked++; asked <= 3 {
			return http.StatusForbidden
		}
		return 0
	})
	note, err := j.plan.register(t.Context())
	if label := j.node().Metadata.Labels["example.org/rack"]; err != nil || strings.Contains(note, "warning") || label != "r7" {
		t.Errorf("after %d requests the Node has the rack %q; %s, %v", asked, label, note, err)
	}
}

// A kubelet that has given up on its CSINode for two minutes is started again, after its own tries and not more often.
func TestReadyRestartsAKubeletThatPauses(t *testing.T) {
	j := labelled(t, profile.Worker)
	is := func(status, message string) {
		j.api.Put("/api/v1/nodes/n2", apitest.Object{"metadata": map[string]any{"name": "n2", "uid": "u2"}, "status": map[string]any{
			"conditions": []any{map[string]any{"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": message}}}})
	}
	is("False", "[container runtime network not ready, failed to initialize CSINode: error updating CSINode annotation: timed out]")
	now, looks := time.Now(), 0
	j.m.Now = func() time.Time {
		now = now.Add(12 * time.Second)
		switch looks++; looks {
		case 2: // it was there for a moment
			is("False", "container runtime network not ready")
		case 3:
			is("False", "failed to initialize CSINode: no")
		case 5:
			if len(j.ran) > 0 {
				t.Errorf("restarted too early: %q", j.ran)
			}
		case 6:
			is("True", "")
		}
		return now
	}
	if _, err := j.plan.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(j.ran) != 1 || j.ran[0] != restartKubelet {
		t.Errorf("ran %q", j.ran)
	}
}

// After a power cut the founder's API server forbids everything until it has read its rules; that is waited for.
func TestAddonsWaitForTheRules(t *testing.T) {
	w := newWorld(t)
	w.founded()
	looks := 0
	w.api.Fail(func(_, path string) int {
		if path == "/readyz" {
			looks++
		}
		switch {
		case looks > 4:
			return 0
		case path == "/readyz":
			return http.StatusInternalServerError
		}
		return http.StatusForbidden
	})
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	if said := w.out.String(); looks <= 4 || strings.Contains(said, "addons: applying") {
		t.Errorf("after %d looks it said\n%s", looks, said)
	}
}
