package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

// The rules of Kubernetes for names (apimachinery, util/validation): RFC 1123 labels, and the names and values of
// labels, which may also hold capitals, dots and underscores.
var (
	dnsLabel      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	qualifiedName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

const wantName = "a DNS label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"

func isDNSLabel(s string) bool { return len(s) <= 63 && dnsLabel.MatchString(s) }

func isDNSName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if !isDNSLabel(label) {
			return false
		}
	}
	return true
}

func isCertificateName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return isDNSName(strings.TrimPrefix(s, "*."))
}

func isLabelKey(s string) bool {
	prefix, name, found := strings.Cut(s, "/")
	if !found {
		prefix, name = "", s
	}
	return (!found || isDNSName(prefix)) && len(name) <= 63 && qualifiedName.MatchString(name)
}

func isLabelValue(s string) bool {
	return s == "" || len(s) <= 63 && qualifiedName.MatchString(s)
}

// AnyName is the pattern of a pool's names that takes a machine's name as it is.
const AnyName = "${hostname}"

// variable is what a pattern of names may hold.
var variable = regexp.MustCompile(`\$\{(hostname|mac|uuid|serial)\}`)

// checkPattern checks the pattern of a pool's names: each variable stands for at least one letter or digit.
func checkPattern(p *document.Problems, field, pattern string) {
	plain := variable.ReplaceAllString(pattern, "x")
	switch {
	case strings.Contains(plain, "$"):
		p.Add(field, "%q has an unknown variable; want ${hostname}, ${mac}, ${uuid} or ${serial}, as in worker-${serial}", pattern)
	case !isDNSLabel(plain):
		p.Add(field, "%q does not make a node's name; want %s, with variables as in worker-${serial}", pattern, wantName)
	}
}

func checkEndpoint(p *document.Problems, field, endpoint string) {
	const want = "host:port of the load balancer, as in 10.0.0.10:6443 or api.example.org:6443"
	host, port, err := net.SplitHostPort(endpoint)
	switch number, numberErr := strconv.Atoi(port); {
	case endpoint == "":
		p.Add(field, "missing; want %s", want)
	case err != nil:
		p.Add(field, "%q has no host and port; want %s", endpoint, want)
	case numberErr != nil || number < 1 || number > 65535:
		p.Add(field, "%q is not a port; want %s", port, want)
	default:
		if _, err := netip.ParseAddr(host); err != nil && !isDNSName(host) {
			p.Add(field, "%q is neither an IP address nor a host name; want %s", host, want)
		}
	}
}

func indexed(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
