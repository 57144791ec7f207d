// Package profile defines the Profile document: what a node is for.
package profile

import (
	_ "embed"

	"github.com/kiln-os/kiln/internal/document"
)

// Kind is the document's kind.
const Kind = "Profile"

// Roles of a node.
const (
	ControlPlane = "control-plane"
	Worker       = "worker"
)

// Profile says what a node is for: its role and what that role adds to the image.
type Profile struct {
	document.Header
	// Name is how a build names the profile.
	Name string `json:"name"`
	// Description says in one sentence what the profile is for.
	Description string `json:"description,omitempty"`
	// Role is control-plane or worker. It decides which container images are baked and what an identity may ask for.
	Role string `json:"role"`
	// Packages are Debian packages added to the image.
	Packages []string `json:"packages,omitempty"`
	// Units enables (true) or disables (false) systemd units, by full name as in chrony.service.
	Units map[string]bool `json:"units,omitempty"`
	// Files are added to the image, absolute path to text content, mode 0644.
	Files map[string]string `json:"files,omitempty"`
	// Kubelet holds fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1) that this profile sets.
	Kubelet map[string]any `json:"kubelet,omitempty"`
	// Labels are put on the Node object.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints are put on the Node when it registers, beside those of its role.
	Taints []Taint `json:"taints,omitempty"`
	// Patches are kubeadm patches: file name as in kube-apiserver0+strategic.yaml to its content.
	Patches map[string]string `json:"patches,omitempty"`
}

// Taint keeps pods off a node.
type Taint struct {
	// Key is the taint's key, as in example.org/gpu.
	Key string `json:"key"`
	// Value is optional.
	Value string `json:"value,omitempty"`
	// Effect is NoSchedule, PreferNoSchedule or NoExecute.
	Effect string `json:"effect"`
}

// Parse reads a Profile document; file is the name for messages.
func Parse(file string, text []byte) (Profile, error) {
	var p Profile
	if err := document.Decode(file, text, Kind, &p); err != nil {
		return Profile{}, err
	}
	return p, p.validate(file)
}

func (p Profile) validate(file string) error {
	problems := &document.Problems{File: file}
	checkProfile(problems, p)
	return problems.Err()
}

// Text is this file's source: its comments are the descriptions in the JSON Schema.
//
//go:embed profile.go
var Text string
