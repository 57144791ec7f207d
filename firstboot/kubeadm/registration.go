package kubeadm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// Labels that every node has from kiln, and those of its place.
const (
	LabelProfile = "kiln.dev/profile"
	LabelRelease = "kiln.dev/release"
	LabelPool    = "kiln.dev/pool"
	labelZone    = "topology.kubernetes.io/zone"
	labelRegion  = "topology.kubernetes.io/region"
)

// Taints are those that the node ends up with: the identity's own list, or those of the role and the profile.
func (o Options) Taints() []profile.Taint {
	if own := o.Identity.Node.Taints; own != nil {
		return *own
	}
	var taints []profile.Taint
	if o.Identity.Node.Role == profile.ControlPlane {
		taints = append(taints, profile.Taint{Key: ControlPlaneTaint, Effect: "NoSchedule"})
	}
	return append(taints, o.Profile.Taints...)
}

// Labels are all that the node ends up with, but for its role's, which kubeadm and the reconciler set: the profile's, over
// them the identity's, over them those of its place and of kiln.
func (o Options) Labels() map[string]string {
	node := o.Identity.Node
	labels := map[string]string{}
	maps.Copy(labels, o.Profile.Labels)
	maps.Copy(labels, node.Labels)
	for key, value := range map[string]string{
		labelZone: node.Zone, labelRegion: node.Region, LabelPool: node.Pool, LabelProfile: o.Baked.Profile, LabelRelease: o.Baked.Release,
	} {
		if value != "" {
			labels[key] = value
		}
	}
	return labels
}

// OwnLabels are those of Labels that a kubelet may give its own Node. Over any other it would end itself (kubernetes,
// cmd/kubelet/app/options: ValidateKubeletFlags), or the API server would refuse the whole Node (NodeRestriction).
func (o Options) OwnLabels() map[string]string {
	own := o.Labels()
	maps.DeleteFunc(own, func(key, _ string) bool { return !profile.KubeletMaySet(key) })
	return own
}

func (o Options) nodeRegistration() nodeRegistration {
	r := nodeRegistration{
		Name:             o.Identity.Node.Name,
		CRISocket:        "unix://" + nodefs.ContainerdSocket,
		Taints:           []taint{},
		KubeletExtraArgs: o.kubeletArguments(),
		// firstboot has proved through CRI that every image is there; kubeadm need not ask again, and must not try a network
		// when it thinks otherwise.
		ImagePullPolicy:       "Never",
		IgnorePreflightErrors: o.Identity.Cluster.Customisation.IgnorePreflightErrors,
	}
	for _, t := range o.Taints() {
		r.Taints = append(r.Taints, taint(t))
	}
	return r
}

// kubeletArguments belong to this node: in the KubeletConfiguration they would reach every node of the cluster. They travel
// through an environment file that is split at spaces; none of them can hold one.
func (o Options) kubeletArguments() []argument {
	node := o.Identity.Node
	address := node.Address
	if node.SecondaryAddress != "" {
		address += "," + node.SecondaryAddress
	}
	arguments := []argument{{"node-ip", address}}
	if node.ProviderID != "" {
		arguments = append(arguments, argument{"provider-id", node.ProviderID})
	}
	var labels []string
	own := o.OwnLabels()
	for _, key := range slices.Sorted(maps.Keys(own)) {
		labels = append(labels, key+"="+own[key])
	}
	if len(labels) > 0 {
		arguments = append(arguments, argument{"node-labels", strings.Join(labels, ",")})
	}
	return arguments
}

// lifetime is how long the token is valid, in kubeadm's form; 0s is for ever.
func lifetime(text string) (string, error) {
	if text == "" {
		text = cluster.DefaultTokenTTL
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration < 0 {
		return "", document.Problem{File: nodefs.IdentityCopy, Field: "bootstrap.tokenTTL",
			Text: fmt.Sprintf("%q is not a length of time; want hours, as in 24h, or 0s for ever", text)}
	}
	return duration.String(), nil
}
