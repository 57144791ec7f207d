package bootstrap

import (
	"fmt"
	"net/netip"
	"strings"
)

// Placeholders in the baked manifests.
const (
	// podSubnet is what the identity says: one subnet, or two with a comma between.
	podSubnet = "__POD_SUBNET__"
	// podNetwork is the same as fields of flannel's net-conf.json, which has one for each family.
	podNetwork = "__POD_NETWORK__"
)

// fillIn puts the cluster's pod subnets into a manifest.
func fillIn(manifest, subnets string) string {
	return strings.NewReplacer(podSubnet, subnets, podNetwork, flannelNetwork(subnets)).Replace(manifest)
}

// flannelNetwork renders the subnets as flannel wants them (flannel, Documentation/configuration.md).
func flannelNetwork(subnets string) string {
	var v4, v6 string
	for subnet := range strings.SplitSeq(subnets, ",") {
		if prefix, err := netip.ParsePrefix(subnet); err == nil && prefix.Addr().Is6() {
			v6 = subnet
		} else {
			v4 = subnet
		}
	}
	switch {
	case v6 == "":
		return fmt.Sprintf(`"Network": %q`, v4)
	case v4 == "":
		return fmt.Sprintf(`"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": %q`, v6)
	}
	return fmt.Sprintf(`"Network": %q, "EnableIPv6": true, "IPv6Network": %q`, v4, v6)
}
