package kubeadm

import (
	"maps"
	"net"
	"slices"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
)

func (o Options) clusterWide() clusterConfiguration {
	c := o.Identity.Cluster
	custom := c.Customisation
	return clusterConfiguration{
		typeMeta:             typeMeta{apiVersion, "ClusterConfiguration"},
		ClusterName:          c.Name,
		KubernetesVersion:    o.Baked.Kubernetes,
		ControlPlaneEndpoint: c.Endpoint,
		CertificatesDir:      nodefs.PKI,
		// The algorithm of kiln's own authorities. A dozen keys cost nothing to make, where RSA takes seconds on a small
		// machine; authorities of another algorithm sign them just as well.
		EncryptionAlgorithm: "ECDSA-P256",
		ImageRepository:     custom.ImageRepository,
		Networking:          networking{c.PodSubnet, c.ServiceSubnet, c.DNSDomain},
		APIServer:           apiServer{component: component{arguments(nil, custom.APIServer)}, CertSANs: certificateNames(o.Identity)},
		// The default lies in the read-only /usr; it has to be the kubelet's volumePluginDir.
		ControllerManager: component{arguments(append([]argument{{"flex-volume-plugin-dir", nodefs.VolumePlugins}}, patience()...), custom.ControllerManager)},
		Scheduler:         component{arguments(patience(), custom.Scheduler)},
		Etcd:              etcd{localEtcd{component{arguments(nil, custom.Etcd)}, EtcdData}},
	}
}

// arguments are kiln's own, without those that the user gives too, and then the user's. One may be given several times, as
// some flags are.
func arguments(own []argument, custom cluster.Component) []argument {
	kept := slices.DeleteFunc(own, func(a argument) bool {
		return slices.ContainsFunc(custom.ExtraArgs, func(c cluster.Argument) bool { return c.Name == a.Name })
	})
	for _, extra := range custom.ExtraArgs {
		kept = append(kept, argument(extra))
	}
	return kept
}

// patience is how long the leading controller manager or scheduler may fail to renew its lease before it ends itself. The
// default, 10 s, restarts both whenever etcd's disk stalls for as long, which slow and emulated machines do; the price is
// that another control plane takes over after 40 s instead of 15 s.
func patience() []argument {
	return []argument{{"leader-elect-lease-duration", "40s"}, {"leader-elect-renew-deadline", "30s"}, {"leader-elect-retry-period", "4s"}}
}

// certificateNames are what clients may call every API server: the endpoint, what the identity adds and, in a dual-stack
// cluster, the founder's second address. kubeadm adds each node's own name and address to its own certificate.
func certificateNames(id cluster.Identity) []string {
	host, _, _ := net.SplitHostPort(id.Cluster.Endpoint)
	var names []string
	for _, name := range append([]string{host, id.Node.SecondaryAddress}, id.Cluster.CertificateNames...) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// kubeProxy is the KubeProxyConfiguration: kiln's fields, over them the cluster's.
func (o Options) kubeProxy() (map[string]any, error) {
	merged := map[string]any{"mode": "nftables", "clusterCIDR": o.Identity.Cluster.PodSubnet}
	kind := map[string]any{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
	custom := o.Identity.Cluster.Customisation.KubeProxy
	problems := &document.Problems{File: nodefs.IdentityCopy}
	contradictions(problems, "cluster.customisation.kubeProxy", custom, kind)
	maps.Copy(merged, custom)
	maps.Copy(merged, kind)
	return merged, problems.Err()
}
