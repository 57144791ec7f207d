package node

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiln-os/kiln/firstboot/node/apitest"
	"github.com/kiln-os/kiln/internal/profile"
)

func client(t *testing.T, s *apitest.Server) *Client {
	t.Helper()
	c, err := NewClient(s.URL, s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	c.FirstPause, c.Patience = time.Millisecond, time.Second
	return c
}

const manifest = `# a comment before
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-flannel}
---

---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: kube-flannel-ds
  namespace: kube-flannel
---
apiVersion: v1
kind: ConfigMap
metadata: {name: unplaced}
data: {text: "a --- b"}
`

func TestApply(t *testing.T) {
	s := apitest.New(t)
	c := client(t, s)
	objects, err := Objects("flannel.yaml", []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if err := c.Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"GET /api/v1", "PATCH /api/v1/namespaces/kube-flannel",
		"GET /apis/apps/v1", "PATCH /apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds",
		"PATCH /api/v1/namespaces/default/configmaps/unplaced",
	}
	if got := s.Requests(); !slices.Equal(got, want) {
		t.Errorf("have requests\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestApplyOfUnknownKindsAndBrokenManifests(t *testing.T) {
	c := client(t, apitest.New(t))
	err := c.Apply(t.Context(), Object{"apiVersion": "v1", "kind": "Gadget", "metadata": map[string]any{"name": "x"}})
	if err == nil || !strings.Contains(err.Error(), "applying Gadget/x: the API server knows no kind Gadget in v1") {
		t.Errorf("have %v", err)
	}
	err = c.Apply(t.Context(), Object{"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": map[string]any{"name": "x"}})
	if !HasCode(err, http.StatusNotFound) {
		t.Errorf("have %v", err)
	}
	if _, err := Objects("a.yaml", []byte("kind: X\n")); err == nil || !strings.Contains(err.Error(), "document 1 of a.yaml: it lacks apiVersion") {
		t.Errorf("have %v", err)
	}
}

func TestRetries(t *testing.T) {
	tests := []struct {
		name  string
		codes []int
		// asks is how many requests are sent; ok whether the last one works.
		asks int
		ok   bool
	}{
		{"busy, then not", []int{429, 503, 500}, 4, true},
		{"forbidden", []int{403}, 1, false},
		{"not found", []int{404}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := apitest.New(t)
			s.Put("/api/v1/nodes/cp1", apitest.Object{})
			left := tt.codes
			s.Fail(func(string, string) int {
				if len(left) == 0 {
					return 0
				}
				code := left[0]
				left = left[1:]
				return code
			})
			_, err := client(t, s).Get(t.Context(), "cp1")
			if (err == nil) != tt.ok || len(s.Requests()) != tt.asks {
				t.Errorf("have %v after %d requests", err, len(s.Requests()))
			}
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	s := apitest.New(t)
	s.Fail(func(string, string) int { return 503 })
	c := client(t, s)
	c.Patience = 20 * time.Millisecond
	if _, err := c.Get(t.Context(), "cp1"); !HasCode(err, 503) {
		t.Errorf("have %v", err)
	}
	if len(s.Requests()) < 2 {
		t.Errorf("asked %d times", len(s.Requests()))
	}
}

func TestAnotherAuthorityIsNotTrusted(t *testing.T) {
	s, other := apitest.New(t), apitest.New(t)
	c, err := NewClient(s.URL, other.Admin)
	if err != nil {
		t.Fatal(err)
	}
	if err = c.Healthy(t.Context()); err == nil {
		t.Fatal("a server of another authority was believed")
	}
	if again(err) {
		t.Error("would be tried again")
	}
}

func TestRegister(t *testing.T) {
	const role = "node-role.kubernetes.io/control-plane"
	taint := func(key, effect string) map[string]any { return map[string]any{"key": key, "effect": effect} }
	evict := map[string]any{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-11-21T00:00:00Z"}
	gpu := profile.Taint{Key: "example.org/gpu", Value: "a", Effect: "NoSchedule"}
	tests := []struct {
		name string
		have []any
		want []profile.Taint
		keys string
	}{
		{"role's taint stays when wanted", []any{taint(role, "NoSchedule")}, []profile.Taint{{Key: role, Effect: "NoSchedule"}}, role},
		{"role's taint goes, Kubernetes' own stays", []any{taint(role, "NoSchedule"), evict}, nil, "node.kubernetes.io/unreachable"},
		{"wanted ones come", nil, []profile.Taint{gpu}, "example.org/gpu"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := apitest.New(t)
			s.Put("/api/v1/nodes/cp1", apitest.Object{"metadata": map[string]any{"name": "cp1", "labels": map[string]any{"a": "kept"}},
				"spec": map[string]any{"taints": tt.have}})
			conflict := true
			s.Fail(func(method, _ string) int {
				if method == "PATCH" && conflict { // once, as when the kubelet was faster
					conflict = false
					return http.StatusConflict
				}
				return 0
			})
			c := client(t, s)
			want := Registration{Labels: map[string]string{"kiln.dev/release": "v1.36"}, Annotations: map[string]string{"x": "y"}, Taints: tt.want, RoleTaint: role}
			if err := c.Register(t.Context(), "cp1", want); err != nil {
				t.Fatal(err)
			}
			n, err := c.Get(t.Context(), "cp1")
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, taint := range n.Spec.Taints {
				keys = append(keys, taint.Key)
				if taint.Key == "node.kubernetes.io/unreachable" && taint.TimeAdded == "" {
					t.Error("the time of a taint was lost")
				}
			}
			if got := strings.Join(keys, " "); got != tt.keys {
				t.Errorf("have taints %q, want %q", got, tt.keys)
			}
			if n.Metadata.Labels["a"] != "kept" || n.Metadata.Labels["kiln.dev/release"] != "v1.36" || n.Metadata.Annotations["x"] != "y" {
				t.Errorf("have %+v", n.Metadata)
			}
		})
	}
}

func TestConditionAndEvent(t *testing.T) {
	s := apitest.New(t)
	s.Put("/api/v1/nodes/cp1", apitest.Object{"metadata": map[string]any{"name": "cp1", "uid": "u1"}, "status": map[string]any{
		"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	c := client(t, s)
	for range 2 { // a run that was cut off does it again
		if err := c.SetCondition(t.Context(), "cp1", Condition{Type: "KilnFirstBoot", Status: "True", Reason: "Completed", Message: "m"}); err != nil {
			t.Fatal(err)
		}
		n, err := c.Get(t.Context(), "cp1")
		if err != nil {
			t.Fatal(err)
		}
		if n.Condition("Ready").Status != "True" || n.Condition("KilnFirstBoot").Reason != "Completed" || n.Condition("Other").Status != "Unknown" {
			t.Errorf("have %+v", n.Status.Conditions)
		}
		if err := c.Record(t.Context(), n, Event{Type: "Normal", Reason: "FirstBootCompleted", Message: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	event := s.Object("/api/v1/namespaces/default/events/cp1.firstbootcompleted")
	if event["reason"] != "FirstBootCompleted" || event["involvedObject"].(map[string]any)["uid"] != "u1" {
		t.Errorf("have %v", event)
	}
}

func TestKubeconfigsThatCannotBeUsed(t *testing.T) {
	for name, text := range map[string]string{
		"not YAML":     "\t",
		"no user":      "clusters: [{cluster: {certificate-authority-data: aGk=}}]",
		"not a pair":   "clusters: [{cluster: {certificate-authority-data: aGk=}}]\nusers: [{user: {client-certificate-data: aGk=, client-key-data: c2VjcmV0}}]",
		"not base64":   "clusters: [{cluster: {certificate-authority-data: '!'}}]\nusers: [{user: {client-certificate-data: aGk=, client-key-data: c2VjcmV0}}]",
		"lacks a part": "clusters: [{cluster: {}}]\nusers: [{user: {client-certificate-data: aGk=, client-key-data: c2VjcmV0}}]",
	} {
		_, err := NewClient("https://127.0.0.1:1", []byte(text))
		if err == nil || strings.Contains(err.Error(), "c2VjcmV0") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: have %v", name, err)
		}
	}
}

func TestStatusErrorIsFound(t *testing.T) {
	err := errors.Join(errors.New("other"), &StatusError{Code: 409})
	if !HasCode(err, 409) || HasCode(err, 404) || HasCode(nil, 404) {
		t.Error("wrong code found")
	}
}
