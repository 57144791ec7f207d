package kubeadm

import (
	"maps"
	"slices"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// fixedKubelet are the fields that the image depends on. Whoever wants one of them otherwise is wrong, and is told so
// instead of being overruled in silence.
func fixedKubelet() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		// containerd's runc runtime has SystemdCgroup = true.
		"cgroupDriver": "systemd",
		// The default lies in the read-only /usr.
		"volumePluginDir": nodefs.VolumePlugins,
		"staticPodPath":   nodefs.Manifests,
		// kubeadm sets it in any case, and without it a joining kubelet never starts its static pods.
		"rotateCertificates": true,
	}
}

// kubeletConfiguration is what all kubelets of the cluster have in common; kubeadm keeps it in the cluster. The profile's
// fields and the node's are not in it: they become patches of the one node, see Patches.
func (o Options) kubeletConfiguration() (map[string]any, error) {
	custom := o.Identity.Cluster.Customisation.Kubelet
	problems := &document.Problems{File: nodefs.IdentityCopy}
	contradictions(problems, "cluster.customisation.kubelet", custom, fixedKubelet())
	merged := maps.Clone(custom)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, fixedKubelet())
	return merged, problems.Err()
}

// contradictions adds a problem for every field of own that differs from a fixed one; field is where own is in its document.
func contradictions(p *document.Problems, field string, own, fixed map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if value, taken := fixed[name]; taken && own[name] != value {
			p.Add(field+"."+name, "is %v, but the image needs %v; drop the field", own[name], value)
		}
	}
}
