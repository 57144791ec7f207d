package profile

import (
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/document"
)

// patchTargets are what kubeadm 1.36 can patch (cmd/kubeadm/app/util/patches).
var patchTargets = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeletconfiguration", "corednsdeployment"}

// checkPatches refuses what kubeadm would silently ignore, or trip over on the node.
func checkPatches(p *document.Problems, patches map[string]string) {
	for _, name := range sortedKeys(patches) {
		field := "patches." + name
		target, kind, ok := splitPatch(name)
		switch {
		case !ok:
			p.Add(field, "is not the name of a kubeadm patch; want target, an optional suffix, an optional +strategic, +merge or +json, and .yaml or .json, "+
				"as in kube-apiserver0+merge.yaml, with target one of %s", strings.Join(patchTargets, ", "))
		case kind != "" && kind != "strategic" && kind != "merge" && kind != "json":
			p.Add(field, "has the unknown patch type %q; want strategic, merge or json", kind)
		default:
			checkPatch(p, field, target, kind, patches[name])
		}
	}
}

// splitPatch takes a file name apart as kubeadm does: target[suffix][+type].extension.
func splitPatch(name string) (target, kind string, ok bool) {
	extension := path.Ext(name)
	if extension != ".yaml" && extension != ".json" || strings.Contains(name, "/") {
		return "", "", false
	}
	stem, kind, typed := strings.Cut(strings.TrimSuffix(name, extension), "+")
	if typed && kind == "" {
		return "", "", false
	}
	for _, candidate := range patchTargets {
		if strings.HasPrefix(stem, candidate) {
			return candidate, kind, true
		}
	}
	return "", "", false
}

func checkPatch(p *document.Problems, field, target, kind, text string) {
	var value any
	err := yaml.Unmarshal([]byte(text), &value)
	_, isList := value.([]any)
	_, isMapping := value.(map[string]any)
	switch {
	case err != nil:
		p.Add(field, "is not valid YAML or JSON; want a patch of %s", target)
	case kind == "json" && !isList:
		p.Add(field, "is not a JSON patch; want a list of operations, or another type than +json")
	case kind != "json" && !isMapping:
		p.Add(field, "is not a patch; want a mapping with the fields of %s to change, or the type +json", target)
	}
}

// owned are the fields of KubeletConfiguration that are not a profile's to set, with the reason.
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

func checkKubelet(p *document.Problems, kubelet map[string]any) {
	for _, name := range sortedKeys(kubelet) {
		if why, bad := owned[name]; bad {
			p.Add("kubelet."+name, "is not a profile's to set: %s", why)
		}
	}
	// kubeadm writes true; with false the kubelet waits for a bootstrap that needs the static pods it does not start.
	if rotate, set := kubelet["rotateCertificates"]; set && rotate != true {
		p.Add("kubelet.rotateCertificates", "has to be true, or a joining control plane waits for itself; leave it out")
	}
	// Any policy that verifies preloaded images makes the kubelet ask a registry for what the image carries.
	policies := []string{"NeverVerify", "NeverVerifyPreloadedImages"}
	if policy, set := kubelet["imagePullCredentialsVerificationPolicy"]; set {
		if text, _ := policy.(string); !slices.Contains(policies, text) {
			p.Add("kubelet.imagePullCredentialsVerificationPolicy", "would make the kubelet ask a registry for baked container images; want %s", strings.Join(policies, " or "))
		}
	}
}
