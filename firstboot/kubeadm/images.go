package kubeadm

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/profile"
)

// defaultRepository is where the container images' names begin unless the cluster says otherwise.
const defaultRepository = "registry.k8s.io"

// addonTags are the versions that each kubeadm has within itself (cmd/kubeadm/app/constants: CoreDNSVersion,
// SupportedEtcdVersion), by the minor version of Kubernetes.
func addonTags() map[string]struct{ dns, etcd string } {
	return map[string]struct{ dns, etcd string }{"v1.36": {dns: "v1.14.2", etcd: "3.6.8-0"}}
}

// RequiredImages are the container images that kubeadm and the kubelet use for this configuration, by full name, sorted:
// what the image has to have baked (cmd/kubeadm/app/images: GetControlPlaneImages). The sandbox is the one that
// containerd was baked with, whatever the cluster's repository. CoreDNS may run on any node. Of a Kubernetes whose kubeadm
// this version does not know, the versions of etcd and CoreDNS are not known either, and left out.
func RequiredImages(o Options) []string {
	repository := cmp.Or(o.Identity.Cluster.Customisation.ImageRepository, defaultRepository)
	tag := ":" + strings.ReplaceAll(o.Baked.Kubernetes, "+", "_")
	required := []string{repository + "/kube-proxy" + tag}
	if o.Baked.SandboxImage != "" {
		required = append(required, o.Baked.SandboxImage)
	}
	controlPlane := o.Identity.Node.Role == profile.ControlPlane
	if controlPlane {
		for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			required = append(required, repository+"/"+name+tag)
		}
	}
	minor := o.Baked.Kubernetes[:max(0, strings.LastIndex(o.Baked.Kubernetes, "."))]
	if tags, known := addonTags()[minor]; known {
		dns := repository
		if repository == defaultRepository {
			dns += "/coredns"
		}
		required = append(required, dns+"/coredns:"+tags.dns)
		if controlPlane {
			required = append(required, repository+"/etcd:"+tags.etcd)
		}
	}
	slices.Sort(required)
	return required
}
