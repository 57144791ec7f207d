package kubeadm

import (
	"maps"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// kubeletConfiguration puts the fields that the image depends on over those of the profile; a profile that wants one of
// them otherwise is wrong, and says so instead of being overruled in silence.
func kubeletConfiguration(p profile.Profile) (map[string]any, error) {
	fixed := map[string]any{
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
	problems := &document.Problems{File: nodefs.Profile}
	for field, value := range fixed {
		if own, given := p.Kubelet[field]; given && own != value {
			problems.Add("kubelet."+field, "is %v, but the image needs %v; drop the field from the profile", own, value)
		}
	}
	merged := maps.Clone(fixed)
	for field, value := range p.Kubelet {
		if _, taken := fixed[field]; !taken {
			merged[field] = value
		}
	}
	return merged, problems.Err()
}
