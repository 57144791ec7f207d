// Package kubeadm renders what kubeadm reads, and understands what it says when it ends with an error. It is pure: values
// in, bytes out; text in, a Failure out.
package kubeadm

import (
	"bytes"
	"fmt"

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

// apiVersion is the version of kubeadm's own documents.
const apiVersion = "kubeadm.k8s.io/v1beta4"

// Options is what a configuration is rendered from.
type Options struct {
	Baked    release.Baked
	Profile  profile.Profile
	Identity cluster.Identity
}

// RenderInit returns the InitConfiguration, ClusterConfiguration, KubeletConfiguration and KubeProxyConfiguration of the
// node that founds a cluster, as one YAML text. It holds the bootstrap token: write it with mode 0600. An error is a
// document.Problem of the profile or the identity.
func RenderInit(o Options) ([]byte, error) {
	initialise, err := o.initialise()
	if err != nil {
		return nil, err
	}
	kubelet, err := o.kubeletConfiguration()
	if err != nil {
		return nil, err
	}
	proxy, err := o.kubeProxy()
	if err != nil {
		return nil, err
	}
	return text(initialise, o.clusterWide(), kubelet, proxy)
}

// text is a file of several YAML documents.
func text(documents ...any) ([]byte, error) {
	var all bytes.Buffer
	for i, part := range documents {
		raw, err := yaml.Marshal(part)
		if err != nil {
			return nil, fmt.Errorf("rendering kubeadm configuration: %w", err)
		}
		if i > 0 {
			all.WriteString("---\n")
		}
		all.Write(raw)
	}
	return all.Bytes(), nil
}

// Redacted is o without its secrets, for a text that people see. What is absent stays absent: it decides what is rendered.
func (o Options) Redacted() Options {
	hide := func(s document.Secret) document.Secret {
		if s.IsZero() {
			return s
		}
		return document.NewSecret(s.String())
	}
	b := o.Identity.Bootstrap
	b.Token, b.CertificateKey = hide(b.Token), hide(b.CertificateKey)
	if b.Authorities != nil {
		own := *b.Authorities
		for _, key := range []*document.Secret{&own.Cluster.Key, &own.FrontProxy.Key, &own.Etcd.Key, &own.ServiceAccount.Key} {
			*key = hide(*key)
		}
		b.Authorities = &own
	}
	o.Identity.Bootstrap = b
	return o
}

func (o Options) initialise() (initConfiguration, error) {
	b := o.Identity.Bootstrap
	patches, err := o.patchDirectory()
	if err != nil {
		return initConfiguration{}, err
	}
	ttl, err := lifetime(b.TokenTTL)
	if err != nil {
		return initConfiguration{}, err
	}
	return initConfiguration{
		typeMeta: typeMeta{apiVersion, "InitConfiguration"},
		BootstrapTokens: []bootstrapToken{{
			Token:       b.Token.Reveal(),
			Description: "token of the cluster's identities",
			TTL:         ttl,
			Usages:      []string{"signing", "authentication"},
			Groups:      []string{"system:bootstrappers:kubeadm:default-node-token"},
		}},
		NodeRegistration: o.nodeRegistration(),
		LocalAPIEndpoint: apiEndpoint{o.Identity.Node.Address, BindPort},
		CertificateKey:   b.CertificateKey.Reveal(),
		Patches:          patches,
		Timeouts:         slowMachine(),
	}, nil
}

// slowMachine gives time to emulated machines and disks that take seconds to sync, and to control planes that join at once
// and wait for each other at etcd; a good machine never waits for these.
func slowMachine() timeouts {
	return timeouts{
		ControlPlaneComponentHealthCheck: "20m0s",
		KubeletHealthCheck:               "10m0s",
		KubernetesAPICall:                "10m0s",
		EtcdAPICall:                      "10m0s",
		TLSBootstrap:                     "15m0s",
		// firstboot itself waits for the endpoint, and says what it sees. kubeadm would wait in silence for a token that
		// expired in between.
		Discovery: "5m0s",
	}
}
