package cluster

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"

	"github.com/kiln-os/kiln/internal/document"
)

var (
	macForm = regexp.MustCompile(`^([0-9a-f]{2}:){5}[0-9a-f]{2}$`)
	// uuidForm is RFC 9562's; firmware also hands out the two that mean none (SMBIOS, 7.2.1).
	uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	noUUID   = regexp.MustCompile(`^(0|-)+$|^(f|-)+$`)
	// serialForm is printable ASCII that can be a file's name once / is written otherwise.
	serialForm = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
)

// normalise writes addresses and UUIDs the one way in which they are compared.
func (m *Match) normalise() {
	if m == nil {
		return
	}
	m.Hostname = strings.ToLower(m.Hostname)
	m.MAC = strings.ToLower(strings.ReplaceAll(m.MAC, "-", ":"))
	m.UUID = strings.ToLower(m.UUID)
	// Without separators both have a form of their own.
	if raw, err := hex.DecodeString(m.MAC); err == nil && len(raw) == 6 {
		parts := make([]string, len(raw))
		for i, b := range raw {
			parts[i] = hex.EncodeToString([]byte{b})
		}
		m.MAC = strings.Join(parts, ":")
	}
	if u := m.UUID; len(u) == 32 && !strings.Contains(u, "-") {
		m.UUID = strings.Join([]string{u[:8], u[8:12], u[12:16], u[16:20], u[20:]}, "-")
	}
}

func checkMatch(p *document.Problems, field string, m *Match) {
	if m == nil {
		return
	}
	if *m == (Match{}) {
		p.Add(field, "is empty; want hostname, mac, uuid or serial, or leave it out")
	}
	if m.Hostname != "" && !isDNSName(m.Hostname) {
		p.Add(field+".hostname", "%q is not a host name; want one as in rack7-u12", m.Hostname)
	}
	switch {
	case m.MAC == "":
	case !macForm.MatchString(m.MAC):
		p.Add(field+".mac", "%q is not a hardware address; want one as in 52:54:00:12:34:56", m.MAC)
	case isGroup(m.MAC) || m.MAC == "00:00:00:00:00:00":
		p.Add(field+".mac", "%s is no machine's own address; want that of one of its interfaces", m.MAC)
	}
	switch {
	case m.UUID == "":
	case !uuidForm.MatchString(m.UUID):
		p.Add(field+".uuid", "%q is not a UUID; want one as in 4c4c4544-0035-4a10-8051-b7c04f4d3132", m.UUID)
	case noUUID.MatchString(m.UUID):
		p.Add(field+".uuid", "%s is what firmware says that has no UUID; match the machine by something else", m.UUID)
	}
	if s := m.Serial; s != "" && (!serialForm.MatchString(s) || strings.HasPrefix(s, ".") || len(s) > 200) {
		p.Add(field+".serial", "%q is not a serial number; want it as the firmware says it, without spaces around it", s)
	}
}

// isGroup tells whether an address that has the form is one of many receivers (IEEE 802, the first bit on the wire).
func isGroup(mac string) bool {
	first, err := hex.DecodeString(mac[:2])
	return err == nil && first[0]&1 == 1
}

// claims finds what two nodes of a cluster claim at once: names, addresses and machines.
type claims map[string]string

// claim notes that field has value; what says of which kind. Values of different kinds do not collide.
func (c claims) claim(p *document.Problems, what, field, value string) {
	if value == "" {
		return
	}
	key := what + " " + value
	if address, err := netip.ParseAddr(value); err == nil {
		key = what + " " + address.String()
	}
	if first, taken := c[key]; taken {
		p.Add(field, "%s is %s already; no two nodes can have the same %s", value, first, what)
		return
	}
	c[key] = field
}
