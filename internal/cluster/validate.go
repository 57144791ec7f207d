package cluster

import (
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// tokenPattern is the form of a kubeadm bootstrap token: a public id and a secret.
var tokenPattern = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)

// checkIdentity adds every problem of id to p. No text ever holds a secret or a piece of one.
func checkIdentity(p *document.Problems, id Identity) {
	if id.Release == "" {
		p.Add("release", "missing; want the name of the release that the node's image carries, as in v1.36")
	}
	checkNode(p, id.Node)
	checkCluster(p, id)
	checkBootstrap(p, id)
}

func checkNode(p *document.Problems, n Node) {
	checkRequired(p, "node.name", n.Name, isDNSLabel, "a DNS label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
	switch n.Role {
	case profile.ControlPlane:
	case profile.Worker:
		if n.Initialise {
			p.Add("node.initialise", "only a control-plane node can initialise a cluster; drop the field or set node.role to %s", profile.ControlPlane)
		}
	case "":
		p.Add("node.role", "missing; want %s or %s", profile.ControlPlane, profile.Worker)
	default:
		p.Add("node.role", "unknown %q; want %s or %s", n.Role, profile.ControlPlane, profile.Worker)
	}
	checkAddress(p, n.Address)
	checkLabels(p, n.Labels)
	if n.Taints != nil {
		checkTaints(p, *n.Taints)
	}
	// The provider ID travels as a kubelet argument through an environment file that is split at spaces.
	if strings.ContainsAny(n.ProviderID, " \t\r\n\"'\\$") {
		p.Add("node.providerID", "holds a space, a quote, a backslash or a dollar sign; want the provider's own form, as in aws:///eu-west-1a/i-0123")
	}
}

func checkCluster(p *document.Problems, id Identity) {
	c := id.Cluster
	checkRequired(p, "cluster.name", c.Name, isDNSLabel, "a DNS label, as in production")
	checkEndpoint(p, c.Endpoint)
	for i, name := range c.CertificateNames {
		field := indexed("cluster.certificateNames", i)
		checkRequired(p, field, name, isCertificateName, "a host name, a wildcard as in *.example.org, or an IP address")
	}
	checkRequired(p, "cluster.dnsDomain", c.DNSDomain, isDNSName, "a domain name, as in cluster.local")
	checkNetworks(p, id)
}

func checkBootstrap(p *document.Problems, id Identity) {
	token := id.Bootstrap.Token
	switch {
	case token.IsZero():
		p.Add("bootstrap.token", "missing; want a bootstrap token, 6 and 16 of a-z and 0-9 with a dot between")
	case !tokenPattern.MatchString(token.Reveal()):
		p.Add("bootstrap.token", "is not a bootstrap token; want 6 and 16 of a-z and 0-9 with a dot between")
	}
	if id.Bootstrap.Authorities != nil {
		checkAuthorities(p, *id.Bootstrap.Authorities, id.Node.Role)
	}
}

// checkRequired adds a problem unless value is there and ok says yes; want describes what is allowed.
func checkRequired(p *document.Problems, field, value string, ok func(string) bool, want string) {
	switch {
	case value == "":
		p.Add(field, "missing; want %s", want)
	case !ok(value):
		p.Add(field, "%q is not allowed; want %s", value, want)
	}
}
