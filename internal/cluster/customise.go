package cluster

import (
	"regexp"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

var (
	// flagForm is what the programs of the control plane call their flags.
	flagForm = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	// repositoryForm is the beginning of a container image's name: host, optional port, path (distribution/reference).
	repositoryForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	// preflightForm is what kubeadm calls its checks, as in NumCPU or Port-10250.
	preflightForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*(\[?[A-Za-z0-9._/-]*\]?)$`)
)

func checkCustomisation(p *document.Problems, part string, c Customisation) {
	for _, program := range []struct {
		name      string
		component Component
		owned     map[string]string
		required  map[string][]string
	}{
		{"apiServer", c.APIServer, ownedByAPIServer, requiredByAPIServer},
		{"controllerManager", c.ControllerManager, ownedByControllerManager, requiredByControllerManager},
		{"scheduler", c.Scheduler, ownedByScheduler, nil},
		{"etcd", c.Etcd, ownedByEtcd, nil},
	} {
		arguments := argumentCheck{program.owned, program.required, map[Argument]bool{}}
		for i, argument := range program.component.ExtraArgs {
			arguments.check(p, indexed(part+"."+program.name+".extraArgs", i), argument)
		}
	}
	profile.CheckKubelet(p, part+".kubelet", c.Kubelet)
	checkKubeProxy(p, part+".kubeProxy", c.KubeProxy)
	profile.CheckPatches(p, part+".patches", c.Patches)
	if c.ImageRepository != "" && !repositoryForm.MatchString(c.ImageRepository) {
		p.Add(part+".imageRepository", "%q is not the beginning of container images' names; want one as in registry.example.org/kubernetes, without a scheme, tag or final /", c.ImageRepository)
	}
	for i, name := range c.IgnorePreflightErrors {
		field := indexed(part+".ignorePreflightErrors", i)
		switch {
		case strings.EqualFold(name, "all"):
			p.Add(field, "would hide every reason why a node cannot work; name the checks, as in NumCPU")
		case !preflightForm.MatchString(name):
			p.Add(field, "%q is not the name of a check of kubeadm's; want one as in NumCPU", name)
		}
	}
}

// argumentCheck checks the further flags of one program.
type argumentCheck struct {
	// owned are flags that follow from other things, with the reason.
	owned map[string]string
	// required are words that the comma list of a flag has to hold.
	required map[string][]string
	seen     map[Argument]bool
}

func (c argumentCheck) check(p *document.Problems, field string, a Argument) {
	why, owned := c.owned[a.Name]
	switch {
	case a.Name == "":
		p.Add(field+".name", "missing; want a flag's name without dashes, as in audit-log-maxage")
	case strings.HasPrefix(a.Name, "-"):
		p.Add(field+".name", "%q begins with a dash; want %s", a.Name, strings.TrimLeft(a.Name, "-"))
	case strings.Contains(a.Name, "="):
		p.Add(field+".name", "%q holds an equals sign; put what follows it into value", a.Name)
	case !flagForm.MatchString(a.Name):
		p.Add(field+".name", "%q is not a flag's name; want one as in audit-log-maxage", a.Name)
	case owned:
		p.Add(field+".name", "%s is not to be set here: %s; leave it out", a.Name, why)
	case c.seen[a]:
		p.Add(field, "says the same as one before; drop it")
	}
	c.seen[a] = true
	for _, word := range c.required[a.Name] {
		if !slices.Contains(strings.Split(a.Value, ","), word) {
			p.Add(field+".value", "%q lacks %s, which the cluster cannot do without; add it, or leave the flag out", a.Value, word)
		}
	}
	if a.Name == "anonymous-auth" && a.Value != "true" {
		p.Add(field+".value", "%q would keep out nodes that join, which first read what everybody may read; leave the flag out", a.Value)
	}
	if a.Name == "disable-admission-plugins" && slices.Contains(strings.Split(a.Value, ","), "NodeRestriction") {
		p.Add(field+".value", "%q drops NodeRestriction, without which a node could give itself any role; leave it in", a.Value)
	}
}

// Reasons why a flag is not for a document to set.
const (
	byAddress  = "it is the node's own address"
	byCluster  = "it follows from the cluster's name"
	byPods     = "it follows from podSubnet"
	byServices = "it follows from serviceSubnet"
	byPort     = "every node's API server listens on 6443, where the load balancer looks for it"
	byPKI      = "it is a file that kubeadm makes or that the cluster's authorities are put in"
	byAccess   = "it is how kubeadm connects the control plane's programs"
	byEtcd     = "it is how the members of etcd find each other"
	byData     = "etcd's data have their place on the state partition, where firstboot looks for them"
	byTokens   = "nodes join by bootstrap tokens"
	byVolumes  = "it has to be the kubelet's volumePluginDir on the state partition"
)

// What kubeadm (cmd/kubeadm/app/phases/controlplane/manifests.go, phases/etcd/local.go) or kiln sets and relies on.
var (
	ownedByAPIServer = map[string]string{
		"advertise-address": byAddress, "secure-port": byPort, "service-cluster-ip-range": byServices, "enable-bootstrap-token-auth": byTokens,
		"etcd-servers": byEtcd, "etcd-cafile": byPKI, "etcd-certfile": byPKI, "etcd-keyfile": byPKI, "etcd-prefix": byEtcd,
		"client-ca-file": byPKI, "tls-cert-file": byPKI, "tls-private-key-file": byPKI, "cert-dir": byPKI,
		"kubelet-client-certificate": byPKI, "kubelet-client-key": byPKI,
		"proxy-client-cert-file": byPKI, "proxy-client-key-file": byPKI, "requestheader-client-ca-file": byPKI,
		"service-account-key-file": byPKI, "service-account-signing-key-file": byPKI,
	}
	ownedByControllerManager = map[string]string{
		"kubeconfig": byAccess, "authentication-kubeconfig": byAccess, "authorization-kubeconfig": byAccess, "use-service-account-credentials": byAccess,
		"client-ca-file": byPKI, "requestheader-client-ca-file": byPKI, "root-ca-file": byPKI, "service-account-private-key-file": byPKI,
		"cluster-signing-cert-file": byPKI, "cluster-signing-key-file": byPKI,
		"cluster-cidr": byPods, "allocate-node-cidrs": byPods, "service-cluster-ip-range": byServices, "cluster-name": byCluster,
		"flex-volume-plugin-dir": byVolumes, "leader-elect": byAccess,
	}
	ownedByScheduler = map[string]string{
		"kubeconfig": byAccess, "authentication-kubeconfig": byAccess, "authorization-kubeconfig": byAccess, "leader-elect": byAccess,
	}
	ownedByEtcd = map[string]string{
		"data-dir": byData, "wal-dir": byData, "config-file": "etcd would ignore every flag",
		"name": byEtcd, "initial-cluster": byEtcd, "initial-cluster-state": byEtcd, "initial-cluster-token": byEtcd, "initial-advertise-peer-urls": byEtcd,
		"advertise-client-urls": byEtcd, "listen-client-urls": byEtcd, "listen-peer-urls": byEtcd, "listen-metrics-urls": byEtcd,
		"discovery": byEtcd, "discovery-srv": byEtcd, "force-new-cluster": "it would make a second cluster of each member",
		"cert-file": byPKI, "key-file": byPKI, "trusted-ca-file": byPKI, "client-cert-auth": byPKI, "auto-tls": byPKI,
		"peer-cert-file": byPKI, "peer-key-file": byPKI, "peer-trusted-ca-file": byPKI, "peer-client-cert-auth": byPKI, "peer-auto-tls": byPKI,
	}
	requiredByAPIServer = map[string][]string{
		"authorization-mode": {"Node", "RBAC"}, "enable-admission-plugins": {"NodeRestriction"},
	}
	requiredByControllerManager = map[string][]string{"controllers": {"bootstrapsigner", "tokencleaner"}}
)

// ownedByKubeProxy are the fields of KubeProxyConfiguration that follow from other things, with the reason.
var ownedByKubeProxy = map[string]string{
	"apiVersion":       "it is always kubeproxy.config.k8s.io/v1alpha1",
	"kind":             "it is always KubeProxyConfiguration",
	"clusterCIDR":      byPods,
	"clientConnection": byAccess,
	"hostnameOverride": "all nodes read the same configuration, and would take each other's name",
}

func checkKubeProxy(p *document.Problems, field string, configuration map[string]any) {
	for _, name := range sortedKeys(configuration) {
		if why, bad := ownedByKubeProxy[name]; bad {
			p.Add(field+"."+name, "is not to be set here: %s; leave it out", why)
		}
	}
	modes := []string{"nftables", "iptables", "ipvs"}
	if mode, set := configuration["mode"]; set {
		if text, _ := mode.(string); !slices.Contains(modes, text) {
			p.Add(field+".mode", "unknown %q; want %s", mode, strings.Join(modes, ", "))
		}
	}
}
