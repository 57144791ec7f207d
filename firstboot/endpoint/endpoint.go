// Package endpoint tells what a node that wants to join can see of its cluster through the load balancer: whether anything
// listens, whether it is this cluster, whether the bootstrap token is good, which version runs, and whether a Node of this
// node's name is there already. Each look ends in one typed state with a sentence for people; Wait looks again until the
// node can join or until only a person can help.
package endpoint

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kiln-os/kiln/internal/document"
)

// Cluster is what a node knows of its cluster before it has joined.
type Cluster struct {
	// Endpoint is host:port, the load balancer's.
	Endpoint string
	// Authority is the cluster's certificate authority; there has to be one. Nothing is believed, and no token is sent,
	// without its signature.
	Authority *x509.Certificate
	// Token is the bootstrap token.
	Token document.Secret
	// Baked is the Kubernetes version in the node's image, as in v1.36.3.
	Baked string
	// Node is the name that this node joins as.
	Node string
	// Machine is the one that this node is.
	Machine Machine
	// Dial replaces how connections are made; nil means a net.Dialer's way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is this machine's clock; nil means time.Now.
	Now func() time.Time
}

// Machine is what a kubelet reports of the machine under a Node.
type Machine struct {
	// ID is the text of /etc/machine-id: it belongs to one installation.
	ID string
	// UUID is the product UUID of the firmware (DMI), in any case. It may be empty.
	UUID string
}

// Bounds of one look.
const (
	// connectTime is long enough for two lost packets: what takes longer is not refused but dropped.
	connectTime = 5 * time.Second
	// answerTime is for one answer. An API server that is short of memory takes its time.
	answerTime = 10 * time.Second
	// lookTime is for a look as a whole.
	lookTime = 30 * time.Second
	// maxAnswer is far more than any object that is asked for; cluster-info is 3 KB.
	maxAnswer = 1 << 20
)

// Look looks once, for 30 s at most. It needs no more than RBAC gives to nobody (cluster-info) and to a bootstrap token:
// kubeadm-config (Role kubeadm:nodes-kubeadm-config in kubeadm's phases/uploadconfig) and Nodes (ClusterRole
// kubeadm:get-nodes in phases/bootstraptoken/node).
func (c Cluster) Look(ctx context.Context) Observation {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	s := c.open()
	defer s.close()
	return s.look(ctx)
}

func (s *session) look(ctx context.Context) Observation {
	info, problem := s.clusterInfo(ctx)
	if problem != nil {
		return problem.Observation
	}
	version, problem := s.version(ctx)
	if problem != nil {
		return problem.Observation
	}
	if !sameVersion(version, s.Baked) {
		return s.versionDiffers(version)
	}
	node, problem := s.node(ctx)
	if problem != nil {
		return problem.Observation
	}
	if node != nil && node.Ready && !node.Ours {
		return s.nameTaken(*node, version)
	}
	if info[signaturePrefix+s.tokenID()] == "" {
		return s.unsigned(version, node)
	}
	return Observation{State: Ready, Kubernetes: version, Node: node, Message: s.Endpoint + " answers: the cluster runs " + version}
}

// ParseAuthority reads an identity's cluster.certificate, PEM.
func ParseAuthority(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("reading certificate authority: it is not PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading certificate authority: %w", err)
	}
	return certificate, nil
}

// Pin is the form in which kubeadm names a certificate authority: the digest of its public key (RFC 7469's, in hex).
func Pin(certificate *x509.Certificate) string {
	if certificate == nil {
		return "none"
	}
	digest := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(digest[:])
}

func (c Cluster) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}
