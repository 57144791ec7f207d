package reconcile

import (
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/cluster"
	"github.com/kiln-os/kiln/internal/profile"
)

// placeholder is what a pool's pattern of names has for what differs between its members.
var placeholder = regexp.MustCompile(`\$\{(hostname|mac|uuid|serial)\}`)

// dnsLabel is what a Node of kiln's may be called (RFC 1123, in lower case).
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// fits tells whether a statement is about the Node called name. That of a single node is about the Node of its own name
// only. In a pool's pattern each placeholder stands for at least one character of a DNS label; a pool without a pattern
// names its members by their hostnames. Control planes are never members of a pool.
func fits(name string, s cluster.Statement) bool {
	if s.Pool == "" {
		return name != "" && name == s.Node
	}
	if s.Role == profile.ControlPlane || !dnsLabel.MatchString(name) {
		return false
	}
	pattern := s.Node
	if pattern == "" {
		pattern = "${hostname}"
	}
	parts := placeholder.Split(pattern, -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	whole, err := regexp.Compile("^" + strings.Join(parts, "[-a-z0-9]+") + "$")
	return err == nil && whole.MatchString(name)
}
