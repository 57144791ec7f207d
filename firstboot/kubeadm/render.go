// Package kubeadm renders the configuration that kubeadm reads. It is pure: values in, bytes out.
package kubeadm

import (
	"bytes"
	"fmt"
	"net"

	"sigs.k8s.io/yaml"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
	"github.com/kiln-os/kiln/internal/release"
)

const (
	// EtcdData is a directory inside nodefs.EtcdData: where a disk of its own is mounted there, kubeadm would stumble
	// over its lost+found.
	EtcdData = nodefs.EtcdData + "/data"
	// BindPort is where the node's own API server listens.
	BindPort = 6443
	// ControlPlaneTaint is the key of the taint that keeps ordinary pods off control planes.
	ControlPlaneTaint = "node-role.kubernetes.io/control-plane"
)

// Options is what a configuration is rendered from.
type Options struct {
	Baked    release.Baked
	Profile  profile.Profile
	Identity cluster.Identity
}

// RenderInit returns the InitConfiguration, ClusterConfiguration, KubeletConfiguration and KubeProxyConfiguration of the
// node that founds a cluster, as one YAML text. It holds the bootstrap token: write it with mode 0600. An error is a
// document.Problem of the profile.
func RenderInit(o Options) ([]byte, error) {
	kubelet, err := kubeletConfiguration(o.Profile)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for i, part := range []any{initialise(o), clusterWide(o), kubelet, kubeProxy(o)} {
		raw, err := yaml.Marshal(part)
		if err != nil {
			return nil, fmt.Errorf("rendering kubeadm configuration: %w", err)
		}
		if i > 0 {
			text.WriteString("---\n")
		}
		text.Write(raw)
	}
	return text.Bytes(), nil
}

// Redacted is o without its secrets, for a text that people see.
func (o Options) Redacted() Options {
	o.Identity.Bootstrap = cluster.Bootstrap{Token: document.NewSecret(document.Secret{}.String())}
	return o
}

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

func initialise(o Options) initConfiguration {
	node := o.Identity.Node
	c := initConfiguration{
		typeMeta: typeMeta{"kubeadm.k8s.io/v1beta4", "InitConfiguration"},
		BootstrapTokens: []bootstrapToken{{
			Token:       o.Identity.Bootstrap.Token.Reveal(),
			Description: "token of the cluster's identities",
			TTL:         "24h0m0s",
			Usages:      []string{"signing", "authentication"},
			Groups:      []string{"system:bootstrappers:kubeadm:default-node-token"},
		}},
		NodeRegistration: nodeRegistration{
			Name:      node.Name,
			CRISocket: "unix://" + nodefs.ContainerdSocket,
			Taints:    []taint{},
			// These two belong to this node: in the KubeletConfiguration they would reach every node of the cluster.
			KubeletExtraArgs: []argument{{"node-ip", node.Address}},
			// firstboot has proved through CRI that every image is there; kubeadm need not ask again, and must not try
			// a network when it thinks otherwise.
			ImagePullPolicy: "Never",
		},
		LocalAPIEndpoint: apiEndpoint{node.Address, BindPort},
		Timeouts:         slowMachine(),
	}
	for _, t := range o.Taints() {
		c.NodeRegistration.Taints = append(c.NodeRegistration.Taints, taint(t))
	}
	if node.ProviderID != "" {
		c.NodeRegistration.KubeletExtraArgs = append(c.NodeRegistration.KubeletExtraArgs, argument{"provider-id", node.ProviderID})
	}
	if len(o.Profile.Patches) > 0 {
		c.Patches = &patches{nodefs.Patches}
	}
	return c
}

// slowMachine gives time to emulated machines and disks that take seconds to sync; a good machine never waits for these.
func slowMachine() timeouts {
	return timeouts{
		ControlPlaneComponentHealthCheck: "20m0s",
		KubeletHealthCheck:               "10m0s",
		KubernetesAPICall:                "10m0s",
		EtcdAPICall:                      "10m0s",
		TLSBootstrap:                     "15m0s",
		Discovery:                        "60m0s",
	}
}

func clusterWide(o Options) clusterConfiguration {
	c := o.Identity.Cluster
	return clusterConfiguration{
		typeMeta:             typeMeta{"kubeadm.k8s.io/v1beta4", "ClusterConfiguration"},
		ClusterName:          c.Name,
		KubernetesVersion:    o.Baked.Kubernetes,
		ControlPlaneEndpoint: c.Endpoint,
		CertificatesDir:      nodefs.PKI,
		Networking:           networking{c.PodSubnet, c.ServiceSubnet, c.DNSDomain},
		APIServer:            apiServer{CertSANs: certificateNames(o.Identity)},
		// The default lies in the read-only /usr; it has to be the kubelet's volumePluginDir.
		ControllerManager: component{ExtraArgs: append([]argument{{"flex-volume-plugin-dir", nodefs.VolumePlugins}}, patience()...)},
		Scheduler:         component{ExtraArgs: patience()},
		Etcd:              etcd{localEtcd{EtcdData}},
	}
}

// patience is how long the leading controller manager or scheduler may fail to renew its lease before it ends itself. The
// default, 10 s, restarts both whenever etcd's disk stalls for as long, which slow and emulated machines do; the price is
// that another control plane takes over after 40 s instead of 15 s.
func patience() []argument {
	return []argument{{"leader-elect-lease-duration", "40s"}, {"leader-elect-renew-deadline", "30s"}, {"leader-elect-retry-period", "4s"}}
}

// certificateNames are what clients may call the API server: the node, the endpoint and what the identity adds.
func certificateNames(id cluster.Identity) []string {
	host, _, _ := net.SplitHostPort(id.Cluster.Endpoint)
	var names []string
	seen := map[string]bool{}
	for _, name := range append([]string{host, id.Node.Address, id.Node.Name}, id.Cluster.CertificateNames...) {
		if name != "" && !seen[name] {
			names = append(names, name)
		}
		seen[name] = true
	}
	return names
}

func kubeProxy(o Options) kubeProxyConfiguration {
	return kubeProxyConfiguration{typeMeta{"kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"}, "nftables", o.Identity.Cluster.PodSubnet}
}
