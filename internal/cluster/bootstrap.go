package cluster

import (
	"regexp"
	"time"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

var (
	// tokenPattern is the form of a kubeadm bootstrap token: a public id and a secret.
	tokenPattern = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	// certificateKeyPattern is the form of kubeadm's certificate key, an AES-256 key.
	certificateKeyPattern = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// checkBootstrap checks that a node has the secrets that its part in the cluster takes, and no others.
func checkBootstrap(p *document.Problems, id Identity) {
	b := id.Bootstrap
	switch {
	case b.Token.IsZero():
		p.Add("bootstrap.token", "missing; want a bootstrap token, 6 and 16 of a-z and 0-9 with a dot between")
	case !tokenPattern.MatchString(b.Token.Reveal()):
		p.Add("bootstrap.token", "is not a bootstrap token; want 6 and 16 of a-z and 0-9 with a dot between")
	}
	checkTTL(p, "bootstrap.tokenTTL", b.TokenTTL)
	if !b.CertificateKey.IsZero() && !certificateKeyPattern.MatchString(b.CertificateKey.Reveal()) {
		p.Add("bootstrap.certificateKey", "is not a certificate key; want 64 hexadecimal digits")
	}
	switch {
	case id.Node.Role == profile.Worker && !id.Node.Initialise:
		checkWorkerBootstrap(p, b)
	case id.Node.Initialise:
		if b.Authorities != nil {
			checkAuthorities(p, *b.Authorities, id.Node.Role)
		}
	case id.Node.Role == profile.ControlPlane:
		checkJoiningBootstrap(p, b)
	}
}

func checkWorkerBootstrap(p *document.Problems, b Bootstrap) {
	if !b.CertificateKey.IsZero() {
		p.Add("bootstrap.certificateKey", "a worker must not hold it; leave it out of a worker's identity")
	}
	if b.Authorities == nil {
		p.Add("bootstrap.authorities.cluster.certificate", "missing; want the certificate of the cluster's authority as PEM, by which the node knows its cluster")
		return
	}
	checkAuthorities(p, *b.Authorities, profile.Worker)
}

// checkJoiningBootstrap follows the two ways of the high-availability guide: the node has the authorities, or the key to
// those that lie in the cluster.
func checkJoiningBootstrap(p *document.Problems, b Bootstrap) {
	a := b.Authorities
	switch {
	case a == nil:
		p.Add("bootstrap.authorities", "missing; a control plane that joins wants all of them with their keys, or bootstrap.certificateKey and cluster.certificate")
	case !a.certificateOnly():
		checkAuthorities(p, *a, profile.ControlPlane)
	case b.CertificateKey.IsZero():
		p.Add("bootstrap.certificateKey", "missing; a control plane that joins wants it, or all of bootstrap.authorities with their keys")
		checkAuthorities(p, *a, profile.Worker)
	default:
		checkAuthorities(p, *a, profile.Worker)
	}
}

// certificateOnly tells whether nothing but the cluster's certificate is there.
func (a Authorities) certificateOnly() bool {
	empty := func(pair KeyPair) bool { return pair.Certificate == "" && pair.Key.IsZero() }
	return a.Cluster.Key.IsZero() && empty(a.FrontProxy) && empty(a.Etcd) && a.ServiceAccount.Public == "" && a.ServiceAccount.Key.IsZero()
}

func checkTTL(p *document.Problems, field, text string) {
	if ttl, err := time.ParseDuration(text); err != nil || ttl < 0 {
		p.Add(field, "%q is not a length of time; want one as in 24h or 90m, or 0s for ever", text)
	}
}
