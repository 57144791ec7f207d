package kubeadm

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/nodefs"
	"github.com/kiln-os/kiln/internal/profile"
)

// RenderJoin returns the JoinConfiguration of a node that joins, as YAML text. It holds the bootstrap token: write it with
// mode 0600. A control plane that has the authorities whole joins with them, staged before kubeadm runs; one that has only
// the cluster's certificate downloads them with its certificate key. An error is a document.Problem of the profile or the
// identity.
func RenderJoin(o Options) ([]byte, error) {
	discovery, err := o.discovery()
	if err != nil {
		return nil, err
	}
	patches, err := o.patchDirectory()
	if err != nil {
		return nil, err
	}
	c := joinConfiguration{
		typeMeta:         typeMeta{apiVersion, "JoinConfiguration"},
		Discovery:        discovery,
		NodeRegistration: o.nodeRegistration(),
		// The kubelet's configuration of every node names this file as the authority of its clients. kubeadm writes it; on
		// a worker it must not be there before.
		CACertPath: nodefs.PKI + "/ca.crt",
		Patches:    patches,
		Timeouts:   slowMachine(),
	}
	if o.Identity.Node.Role != profile.ControlPlane {
		// A worker only reads the cluster's configuration; what keeps it from that is looked at between two tries.
		c.Timeouts.KubernetesAPICall = "2m0s"
		return text(c)
	}
	if c.ControlPlane, err = o.joinControlPlane(); err != nil {
		return nil, err
	}
	return text(c)
}

func (o Options) discovery() (discovery, error) {
	token := o.Identity.Bootstrap.Token.Reveal()
	var certificate string
	if own := o.Identity.Bootstrap.Authorities; own != nil {
		certificate = own.Cluster.Certificate
	}
	pin, err := CAHash(certificate)
	if err != nil {
		return discovery{}, o.identityProblem("bootstrap.authorities.cluster.certificate",
			err.Error()+"; a node that joins knows its cluster by it: render the identity again")
	}
	return discovery{
		BootstrapToken:    bootstrapDiscovery{Token: token, APIServerEndpoint: o.Identity.Cluster.Endpoint, CACertHashes: []string{pin}},
		TLSBootstrapToken: token,
	}, nil
}

func (o Options) joinControlPlane() (*joinControlPlane, error) {
	c := &joinControlPlane{LocalAPIEndpoint: apiEndpoint{o.Identity.Node.Address, BindPort}}
	b := o.Identity.Bootstrap
	switch {
	case Staged(b):
		// A key would make kubeadm download the certificates over those that are there, for two hours at most.
	case b.CertificateKey.IsZero():
		return nil, o.identityProblem("bootstrap.certificateKey",
			"missing, and bootstrap.authorities has no keys; a control plane that joins needs one of both: render the identity again")
	default:
		c.CertificateKey = b.CertificateKey.Reveal()
	}
	return c, nil
}

// Staged tells whether the identity carries the cluster's authorities with their keys, so that nothing is downloaded.
func Staged(b cluster.Bootstrap) bool {
	return b.Authorities != nil && !b.Authorities.Cluster.Key.IsZero()
}

// CAHash is the pin of a certificate authority in kubeadm's form: "sha256:" and, in hex, the SHA-256 of the subject public
// key info of the certificate, which is PEM text (RFC 7469; kubeadm, util/pubkeypin).
func CAHash(text string) (string, error) {
	if text == "" {
		return "", errors.New("missing")
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("is not a certificate as PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", errors.New("is not a certificate that can be read")
	}
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// identityProblem is a problem of the node's identity, which lies on the node as a copy.
func (o Options) identityProblem(field, text string) error {
	return document.Problem{File: nodefs.IdentityCopy, Field: field, Text: text}
}
