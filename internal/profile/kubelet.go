package profile

import (
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// owned are the fields of KubeletConfiguration that follow from other things, with the reason.
var owned = map[string]string{
	"apiVersion":               "it is always kubelet.config.k8s.io/v1beta1; leave it out",
	"kind":                     "it is always KubeletConfiguration; leave it out",
	"containerRuntimeEndpoint": "it follows from the containerd in the image; leave it out",
	"staticPodPath":            "kubeadm writes its static pods to /etc/kubernetes/manifests; leave it out",
	"volumePluginDir":          "it has to lie on the state partition, and does; leave it out",
	"clusterDNS":               "it follows from the identity's cluster.serviceSubnet; leave it out",
	"clusterDomain":            "it is the identity's cluster.dnsDomain; leave it out",
	"providerID":               "it is the identity's node.providerID; leave it out",
	"registerWithTaints":       "it follows from taints; use those",
	"authentication":           "kubeadm sets it; use a patch called kubeletconfiguration",
	"authorization":            "kubeadm sets it; use a patch called kubeletconfiguration",
}

// CheckKubelet refuses the fields of a KubeletConfiguration that are not a document's to set, and values that keep a node
// from working; field is where the document has them.
func CheckKubelet(p *document.Problems, field string, kubelet map[string]any) {
	for _, name := range sortedKeys(kubelet) {
		if why, bad := owned[name]; bad {
			p.Add(field+"."+name, "is not to be set here: %s", why)
		}
	}
	// kubeadm writes true; with false the kubelet waits for a bootstrap that needs the static pods it does not start.
	if rotate, set := kubelet["rotateCertificates"]; set && rotate != true {
		p.Add(field+".rotateCertificates", "has to be true, or a joining control plane waits for itself; leave it out")
	}
	if register, set := kubelet["registerNode"]; set && register != true {
		p.Add(field+".registerNode", "has to be true, or the node never becomes a member; leave it out")
	}
	if driver, set := kubelet["cgroupDriver"]; set && driver != "systemd" {
		p.Add(field+".cgroupDriver", "has to be systemd, which the containerd in the image uses; leave it out")
	}
	// Any policy that verifies preloaded images makes the kubelet ask a registry for what the image carries.
	policies := []string{"NeverVerify", "NeverVerifyPreloadedImages"}
	if policy, set := kubelet["imagePullCredentialsVerificationPolicy"]; set {
		if text, _ := policy.(string); !slices.Contains(policies, text) {
			p.Add(field+".imagePullCredentialsVerificationPolicy", "would make the kubelet ask a registry for baked container images; want %s", strings.Join(policies, " or "))
		}
	}
}
