package cluster

import _ "embed"

// Customisation is what a cluster sets otherwise than kiln and kubeadm do by themselves. The names are those of
// kubeadm.k8s.io/v1beta4.
type Customisation struct {
	// APIServer changes kube-apiserver.
	APIServer Component `json:"apiServer,omitzero"`
	// ControllerManager changes kube-controller-manager.
	ControllerManager Component `json:"controllerManager,omitzero"`
	// Scheduler changes kube-scheduler.
	Scheduler Component `json:"scheduler,omitzero"`
	// Etcd changes etcd.
	Etcd Component `json:"etcd,omitzero"`
	// Kubelet holds fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1) for every node of the cluster.
	Kubelet map[string]any `json:"kubelet,omitempty"`
	// KubeProxy holds fields of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
	KubeProxy map[string]any `json:"kubeProxy,omitempty"`
	// Patches are kubeadm patches: file name as in kube-apiserver0+strategic.yaml to its content. They reach every node,
	// after those of its profile.
	Patches map[string]string `json:"patches,omitempty"`
	// ImageRepository is where the container images' names begin; default registry.k8s.io. The node image must have been
	// baked with container images of these names.
	ImageRepository string `json:"imageRepository,omitempty"`
	// IgnorePreflightErrors are checks of kubeadm's whose failure is only reported, as in NumCPU.
	IgnorePreflightErrors []string `json:"ignorePreflightErrors,omitempty"`
}

// Component changes one program of the control plane.
type Component struct {
	// ExtraArgs are further flags, without the dashes. One that kiln sets itself is replaced.
	ExtraArgs []Argument `json:"extraArgs,omitempty"`
}

// Argument is one flag of a program.
type Argument struct {
	// Name is the flag's name without dashes, as in audit-log-maxage.
	Name string `json:"name"`
	// Value is what follows the equals sign.
	Value string `json:"value"`
}

// CustomisationText is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed customisation.go
var CustomisationText string
