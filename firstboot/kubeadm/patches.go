package kubeadm

import (
	"fmt"
	"maps"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// kubelet is the target of the patches that kiln itself makes.
const kubelet = "kubeletconfiguration"

// The places of a patch among those of the same target. kubeadm applies them in the order of their file names, so that the
// later ones win (util/patches: getPatchSetsFromPath).
const (
	ofProfile        = "-1-profile-kubelet"
	ofNode           = "-2-node-kubelet"
	profilePatches   = "-3-profile"
	identityPatches  = "-4-cluster"
	mergePatchSuffix = "+merge.yaml"
)

// patchTargets are what kubeadm 1.36 patches (cmd/kubeadm/app/util/patches).
var patchTargets = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", kubelet, "corednsdeployment"}

// Patches are the files of kubeadm's patches directory, name to content: the profile's kubelet fields, over them the node's,
// over them the profile's own patches, over them the cluster's. A user's patch keeps its name but for a mark after the
// target, which tells where it is from and keeps the order; within one document, the order of the names stays.
//
// The generated ones are merge patches (RFC 7386): mappings are merged, lists are replaced and null removes a field,
// whatever the field. An error is a document.Problem of the profile or the identity.
func Patches(o Options) (map[string]string, error) {
	patches := map[string]string{}
	for _, generated := range []struct {
		place, file, field string
		fields             map[string]any
	}{
		{ofProfile, nodefs.Profile, "kubelet", o.Profile.Kubelet},
		{ofNode, nodefs.IdentityCopy, "node.kubelet", o.Identity.Node.Kubelet},
	} {
		problems := &document.Problems{File: generated.file}
		contradictions(problems, generated.field, generated.fields, fixedKubelet())
		if err := problems.Err(); err != nil {
			return nil, err
		}
		if len(generated.fields) == 0 {
			continue
		}
		raw, err := yaml.Marshal(generated.fields)
		if err != nil {
			return nil, fmt.Errorf("rendering patch of %s: %w", generated.field, err)
		}
		patches[kubelet+generated.place+mergePatchSuffix] = string(raw)
	}
	maps.Copy(patches, marked(profilePatches, o.Profile.Patches))
	maps.Copy(patches, marked(identityPatches, o.Identity.Cluster.Customisation.Patches))
	return patches, nil
}

// marked puts place between a patch's target and the rest of its name: kube-apiserver0+merge.yaml becomes
// kube-apiserver-3-profile0+merge.yaml. kubeadm ignores a file whose target it does not know; its name stays.
func marked(place string, patches map[string]string) map[string]string {
	renamed := map[string]string{}
	for name, content := range patches {
		for _, target := range patchTargets {
			if rest, found := strings.CutPrefix(name, target); found {
				name = target + place + rest
				break
			}
		}
		renamed[name] = content
	}
	return renamed
}

// patchDirectory is nil when there are no patches: kubeadm refuses a directory that does not exist.
func (o Options) patchDirectory() (*patches, error) {
	all, err := Patches(o)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &patches{nodefs.Patches}, nil
}
