package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
)

// annotationMachine holds what a node says about its machine, as JSON: {"macs": ["52:54:00:12:34:56"], "uuid": "…"}.
const annotationMachine = "kiln.dev/machine"

// machine is what may not be the same on two nodes: kubeadm asks for a unique MAC address and product UUID of each.
type machine struct {
	MACs []string `json:"macs"`
	UUID string   `json:"uuid"`
}

var uuidShape = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// sharedUUIDs are product UUIDs that vendors have given to many machines. They say nothing about which machine it is.
func sharedUUIDs() []string {
	return []string{
		// The default of American Megatrends' firmware, on boards of many vendors (oshi/oshi issue 2417).
		"03000200-0400-0500-0006-000700080009",
		// Other boards (rockstor/rockstor-core issue 2143; SolidRun/lx2160a_uefi issue 4).
		"31393138-3538-5a43-3135-353130323750",
		"00000000-0000-0000-0807-060504030201",
		"8a95d198-7f46-11e5-bf8b-08002704d48e",
		// Bytes that count up: what an example of the specification's fields looks like.
		"00010203-0405-0607-0809-0a0b0c0d0e0f",
	}
}

// usableUUID normalises a product UUID; "" when it does not tell machines apart. One repeated digit is how firmware says
// that it has none: all 0 or all F (SMBIOS specification DSP0134, 7.2.1), which dmidecode prints as "Not Present" and "Not
// Settable".
func usableUUID(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if !uuidShape.MatchString(text) || slices.Contains(sharedUUIDs(), text) {
		return ""
	}
	if digits := strings.ReplaceAll(text, "-", ""); strings.Trim(digits, digits[:1]) == "" {
		return ""
	}
	return text
}

// managementMACs are addresses of the USB interface between a machine and its own management controller: the same in
// each machine, and no network's (Insyde's and ASPEED's RNDIS gadget).
func managementMACs() []string { return []string{"be:3a:f2:b6:05:9f", "b0:3a:f2:b6:05:9f"} }

// usableMAC normalises a hardware address; "" when it is not one interface's own.
func usableMAC(text string) string {
	address, err := net.ParseMAC(strings.TrimSpace(text))
	// The lowest bit of the first byte marks groups of interfaces (IEEE 802).
	if err != nil || len(address) != 6 || address[0]&1 == 1 || strings.Trim(address.String(), "0:") == "" {
		return ""
	}
	if slices.Contains(managementMACs(), address.String()) {
		return ""
	}
	return address.String()
}

// marks are what a Node has to have for itself, in words: "product UUID 4c4c…", "MAC address 52:54:…". systemUUID is what
// its kubelet reports, "" if that is not known. An annotation that cannot be read is as good as none: it comes from a node.
func marks(annotation, systemUUID string) []string {
	var m machine
	if annotation != "" && json.Unmarshal([]byte(annotation), &m) != nil {
		m = machine{}
	}
	set := map[string]bool{}
	for _, uuid := range []string{m.UUID, systemUUID} {
		if uuid = usableUUID(uuid); uuid != "" {
			set["product UUID "+uuid] = true
		}
	}
	for _, mac := range m.MACs {
		if mac = usableMAC(mac); mac != "" {
			set["MAC address "+mac] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// mostNamed bounds how many nodes a message names.
const mostNamed = 8

// duplicates tells for each Node that shares a mark with others what it shares and with whom: the text of a condition.
// marked maps the names of Nodes to their marks.
func duplicates(marked map[string][]string) map[string]string {
	owners := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(marked)) {
		for _, mark := range marked[name] {
			owners[mark] = append(owners[mark], name)
		}
	}
	texts := map[string]string{}
	for name, own := range marked {
		var parts []string
		for _, mark := range own {
			if len(owners[mark]) > 1 {
				parts = append(parts, fmt.Sprintf("%s is also that of %s", mark, others(owners[mark], name)))
			}
		}
		if len(parts) > 0 {
			text := strings.Join(parts, "; ")
			texts[name] = text[:min(len(text), 1024)]
		}
	}
	return texts
}

// others lists names without own, so many of them as a message bears.
func others(names []string, own string) string {
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == own })
	if len(rest) > mostNamed {
		return fmt.Sprintf("%s and %d more nodes", strings.Join(rest[:mostNamed], ", "), len(rest)-mostNamed)
	}
	return strings.Join(rest, ", ")
}
