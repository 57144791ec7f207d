package kubeadm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

var update = flag.Bool("update", false, "rewrite the golden files, then fail")

const identity = `apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node: {name: cp1, role: control-plane, initialise: true, address: 10.0.2.15}
cluster: {name: demo, endpoint: "10.0.2.15:6443"}
bootstrap: {token: abcdef.0123456789abcdef}
`

const rich = `apiVersion: kiln/v1alpha1
kind: Identity
release: v1.36
node:
  name: cp1
  role: control-plane
  initialise: true
  address: fd00:10::11
  providerID: aws:///eu-west-1a/i-0123
  taints: []
cluster:
  name: production
  endpoint: api.example.org:443
  certificateNames: [api.example.org, 192.0.2.7, "*.api.example.org"]
  podSubnet: fd00:200::/56
  serviceSubnet: fd00:100::/112
  dnsDomain: example.internal
bootstrap: {token: abcdef.0123456789abcdef}
`

func options(t *testing.T, text string, p profile.Profile) Options {
	t.Helper()
	id, err := cluster.ParseIdentity("identity.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Options{Baked: release.Baked{Kubernetes: "v1.36.3"}, Profile: p, Identity: id}
}

func TestRenderInit(t *testing.T) {
	tuned := profile.Profile{
		Kubelet: map[string]any{"maxPods": 50, "shutdownGracePeriod": "30s", "cgroupDriver": "systemd"},
		Taints:  []profile.Taint{{Key: "example.org/gpu", Value: "a100", Effect: "NoExecute"}},
		Patches: map[string]string{"etcd0+strategic.yaml": "{}"},
	}
	tests := []struct {
		golden string
		o      Options
	}{
		{"plain.yaml", options(t, identity, profile.Profile{})},
		{"profile.yaml", options(t, identity, tuned)},
		{"ipv6-endpoint-no-taints.yaml", options(t, rich, tuned)},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			got, err := RenderInit(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.golden)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				t.Fatal("rewrote the golden file; run again without -update")
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("differs from %s (run with -update):\n%s", path, got)
			}
		})
	}
}

func TestRedactedHidesTheToken(t *testing.T) {
	got, err := RenderInit(options(t, identity, profile.Profile{}).Redacted())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "abcdef") || !strings.Contains(string(got), "[redacted]") {
		t.Errorf("have:\n%s", got)
	}
}

func TestProfileThatContradictsTheImage(t *testing.T) {
	o := options(t, identity, profile.Profile{Kubelet: map[string]any{"cgroupDriver": "cgroupfs", "rotateCertificates": false}})
	_, err := RenderInit(o)
	if !document.IsInvalid(err) {
		t.Fatalf("have %v", err)
	}
	for _, want := range []string{"kubelet.cgroupDriver: is cgroupfs, but the image needs systemd", "kubelet.rotateCertificates"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message lacks %q:\n%v", want, err)
		}
	}
}

func TestTaints(t *testing.T) {
	own := []profile.Taint{{Key: "a", Effect: "NoSchedule"}}
	extra := []profile.Taint{{Key: "b", Effect: "NoSchedule"}}
	tests := []struct {
		name, role string
		own        *[]profile.Taint
		want       string
	}{
		{"control plane", profile.ControlPlane, nil, ControlPlaneTaint + " b"},
		{"worker", profile.Worker, nil, "b"},
		{"identity replaces", profile.ControlPlane, &own, "a"},
		{"identity empties", profile.ControlPlane, &[]profile.Taint{}, ""},
	}
	for _, tt := range tests {
		o := Options{Profile: profile.Profile{Taints: extra}}
		o.Identity.Node.Role, o.Identity.Node.Taints = tt.role, tt.own
		var keys []string
		for _, taint := range o.Taints() {
			keys = append(keys, taint.Key)
		}
		if got := strings.Join(keys, " "); got != tt.want {
			t.Errorf("%s: have %q, want %q", tt.name, got, tt.want)
		}
	}
}
