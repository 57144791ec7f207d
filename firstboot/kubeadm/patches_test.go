package kubeadm

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kiln-os/kiln/internal/profile"
)

// layered is a node whose kubelet is tuned in every place that there is: the last one wins.
func layered() world {
	return world{
		golden: "layered",
		node:   founder + ", kubelet: {maxPods: 60, podPidsLimit: 60, systemReserved: {memory: 60Mi}, shutdownGracePeriod: null}",
		cluster: `customisation: {kubelet: {maxPods: 40, podPidsLimit: 40, containerLogMaxFiles: 40, registryPullQPS: 40, eventRecordQPS: 40},
  patches: {kubeletconfiguration+json.yaml: '[{"op": "replace", "path": "/maxPods", "value": 80}]', kube-apiserver.yaml: "metadata: {labels: {from: cluster}}", corednsdeployment.yaml: "{}"}}`,
		profile: profile.Profile{
			Kubelet: map[string]any{"maxPods": 50, "podPidsLimit": 50, "containerLogMaxFiles": 50, "shutdownGracePeriod": "50s", "systemReserved": map[string]any{"cpu": "50m", "memory": "50Mi"}},
			Patches: map[string]string{"kubeletconfiguration.yaml": "maxPods: 70\nregistryPullQPS: 70\n", "kube-apiserver.yaml": "metadata: {labels: {from: profile, profile: 'yes'}}", "kube-apiserver0+merge.yaml": "{}", "README.txt": "x"},
		},
	}
}

func TestPatches(t *testing.T) {
	o := layered().options(t)
	got, err := Patches(o)
	if err != nil {
		t.Fatal(err)
	}
	// kubeadm takes them in this order.
	names := []string{"README.txt", "corednsdeployment-4-cluster.yaml",
		"kube-apiserver-3-profile.yaml", "kube-apiserver-3-profile0+merge.yaml", "kube-apiserver-4-cluster.yaml",
		"kubeletconfiguration-1-profile-kubelet+merge.yaml", "kubeletconfiguration-2-node-kubelet+merge.yaml", "kubeletconfiguration-3-profile.yaml", "kubeletconfiguration-4-cluster+json.yaml"}
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, names) {
		t.Errorf("have %q\nwant %q", have, names)
	}
	if text := got["kubeletconfiguration-2-node-kubelet+merge.yaml"]; text != "maxPods: 60\npodPidsLimit: 60\nshutdownGracePeriod: null\nsystemReserved:\n  memory: 60Mi\n" {
		t.Errorf("the node's patch is\n%s", text)
	}
	if got["kube-apiserver-4-cluster.yaml"] == got["kube-apiserver-3-profile.yaml"] || len(o.Profile.Patches) != 4 {
		t.Error("two patches of one name are mixed up")
	}
}

func TestNoPatchesNoDirectory(t *testing.T) {
	o := world{node: founder}.options(t)
	text, err := RenderInit(o)
	if err != nil || strings.Contains(string(text), "patches") {
		t.Errorf("have %v:\n%s", err, text)
	}
	for _, w := range []world{{node: founder + ", kubelet: {maxPods: 1}"}, {node: founder, cluster: "customisation: {patches: {etcd.yaml: '{}'}}"}, {node: founder, profile: tuned()}} {
		text, err := RenderInit(w.options(t))
		if err != nil || !strings.Contains(string(text), "patches:\n  directory: /var/lib/kiln/firstboot/patches\n") {
			t.Errorf("have %v:\n%s", err, text)
		}
	}
}
