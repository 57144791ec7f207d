package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
	"github.com/kiln-os/kiln/internal/profile"
)

// The rules of Kubernetes for names (apimachinery, util/validation): RFC 1123 labels, and the names and values of
// labels, which may also hold capitals, dots and underscores.
var (
	dnsLabel      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	qualifiedName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

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

const (
	wantLabelKey   = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, with an optional DNS prefix and /"
	wantLabelValue = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit, or nothing"
)

func checkLabels(p *document.Problems, labels map[string]string) {
	keys := make([]string, 0, len(labels))
	for key := range labels {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		field := "node.labels." + key
		switch prefix, _, _ := strings.Cut(key, "/"); {
		case !isLabelKey(key):
			p.Add(field, "is not a label's name; want %s", wantLabelKey)
		case prefix == "node-role.kubernetes.io":
			p.Add(field, "role labels are not set by hand; set node.role, and the node gets its role label from it")
		case prefix == "kiln.dev":
			p.Add(field, "labels below kiln.dev/ are set by the node itself; use a prefix of your own")
		}
		if !isLabelValue(labels[key]) {
			p.Add(field, "has a value that is not a label's; want %s", wantLabelValue)
		}
	}
}

func checkTaints(p *document.Problems, taints []profile.Taint) {
	seen := map[string]bool{}
	for i, taint := range taints {
		field := indexed("node.taints", i)
		checkRequired(p, field+".key", taint.Key, isLabelKey, wantLabelKey)
		if !isLabelValue(taint.Value) {
			p.Add(field+".value", "is not a taint's value; want %s", wantLabelValue)
		}
		switch taint.Effect {
		case "NoSchedule", "PreferNoSchedule", "NoExecute":
		default:
			p.Add(field+".effect", "unknown %q; want NoSchedule, PreferNoSchedule or NoExecute", taint.Effect)
		}
		id := taint.Key + ":" + taint.Effect
		if seen[id] {
			p.Add(field, "a taint with this key and effect is given before; keep one of them")
		}
		seen[id] = true
	}
}

func checkEndpoint(p *document.Problems, endpoint string) {
	const want = "host:port of the load balancer, as in 10.0.0.10:6443 or api.example.org:6443"
	host, port, err := net.SplitHostPort(endpoint)
	switch number, numberErr := strconv.Atoi(port); {
	case endpoint == "":
		p.Add("cluster.endpoint", "missing; want %s", want)
	case err != nil:
		p.Add("cluster.endpoint", "%q has no host and port; want %s", endpoint, want)
	case numberErr != nil || number < 1 || number > 65535:
		p.Add("cluster.endpoint", "%q is not a port; want %s", port, want)
	default:
		if _, err := netip.ParseAddr(host); err != nil && !isDNSName(host) {
			p.Add("cluster.endpoint", "%q is neither an IP address nor a host name; want %s", host, want)
		}
	}
}

func indexed(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }
