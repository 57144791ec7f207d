package network

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/internal/cluster"
)

var vlanPattern = regexp.MustCompile(`^(?:vlan|.+\.)0*([0-9]{1,4})$`)

// parseVLAN reads NAME:PARENT; the number is in the name: vlan5, vlan0005, eth0.5 or eth0.0005.
func parseVLAN(value string) (Link, error) {
	name, parent, ok := strings.Cut(value, ":")
	match := vlanPattern.FindStringSubmatch(name)
	if !ok || parent == "" || match == nil {
		return Link{}, errors.New("want NAME:INTERFACE with the number in the name, as in vlan5:eth0 or eth0.5:eth0")
	}
	id, err := strconv.Atoi(match[1])
	if err != nil || id < 1 || id > 4094 {
		return Link{}, fmt.Errorf("%s is no VLAN's number; want 1 to 4094", match[1])
	}
	return Link{Name: name, VLAN: &VLAN{ID: id, Parent: parent}}, nil
}

// parseBond reads NAME:LINKS[:OPTIONS[:MTU]], links and options with commas between them.
func parseBond(value string) (Link, error) {
	fields := strings.SplitN(value, ":", 4)
	if len(fields) < 2 || fields[0] == "" || fields[1] == "" {
		return Link{}, errors.New("want NAME:LINK,LINK[:OPTIONS[:MTU]], as in bond0:eth0,eth1:mode=802.3ad,miimon=100")
	}
	link := Link{Name: fields[0], Bond: &Bond{Links: strings.Split(fields[1], ","), Mode: "balance-rr", Monitor: 100}}
	var errs []error
	if len(fields) > 2 && fields[2] != "" {
		for option := range strings.SplitSeq(fields[2], ",") {
			errs = append(errs, link.Bond.set(option))
		}
	}
	if len(fields) > 3 {
		mtu, err := parseMTU(fields[3])
		link.MTU = mtu
		errs = append(errs, err)
	}
	return link, errors.Join(errs...)
}

// hashPolicies are the kernel's transmit hash policies, by their numbers.
func hashPolicies() []string {
	return []string{"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"}
}

// set reads one option of a bond.
func (b *Bond) set(option string) error {
	key, value, _ := strings.Cut(option, "=")
	choose := func(names []string) (string, error) {
		if n, err := strconv.Atoi(value); err == nil && n >= 0 && n < len(names) {
			return names[n], nil
		}
		if slices.Contains(names, value) {
			return value, nil
		}
		return "", fmt.Errorf("%s: %q is not known; want one of %s", key, value, strings.Join(names, ", "))
	}
	var err error
	switch key {
	case "mode":
		b.Mode, err = choose(cluster.BondModes())
	case "miimon":
		if b.Monitor, err = strconv.Atoi(value); err != nil || b.Monitor < 0 {
			err = fmt.Errorf("miimon: %q is no number of milliseconds", value)
		}
	case "lacp_rate":
		var rate string
		rate, err = choose([]string{"slow", "fast"})
		b.LACPFast = rate == "fast"
	case "xmit_hash_policy":
		b.HashPolicy, err = choose(hashPolicies())
	default:
		err = fmt.Errorf("option %q is not known here; want mode, miimon, lacp_rate or xmit_hash_policy", key)
	}
	return err
}
