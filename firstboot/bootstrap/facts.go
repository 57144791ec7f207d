package bootstrap

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kiln-os/kiln/firstboot/source"
	"github.com/kiln-os/kiln/internal/nodefs"
)

// Facts are what the machine is, whatever an identity says. A fact that the machine does not tell is empty or zero.
type Facts struct {
	// Hostname is the name that the machine had from its metadata or network before kiln named it, in lower case; empty
	// while it only has the system's default.
	Hostname string
	// MACs are the hardware addresses of its network interfaces, in lower case with colons, in the order of the
	// interfaces' names. Those of interfaces that programs made count only on a machine that has no other.
	MACs []string
	// UUID and Serial are the product's (DMI), as the firmware says; the UUID in lower case.
	UUID, Serial string
	// Memory is how many bytes the kernel has.
	Memory uint64
	// CPUs is how many processors this process may use: what kubeadm counts.
	CPUs int
	// Swap names the devices and files that are swapped to.
	Swap []string
	// Platform is the one that the image was built for, as the kernel command line says (source.Platforms).
	Platform string
}

// firstName keeps the name that the machine had before kiln named it: the next boot begins with kiln's.
const firstName = nodefs.KilnState + "/firstboot/hostname"

// facts reads the machine's facts below its root. It changes nothing; see rememberHostname.
func (m *Machine) facts() Facts {
	memory, _, _ := strings.Cut(m.field("/proc/meminfo", "MemTotal"), " ")
	kilobytes, _ := strconv.ParseUint(memory, 10, 64)
	f := Facts{
		Hostname: m.firstHostname(),
		MACs:     m.hardwareAddresses(),
		UUID:     strings.ToLower(m.firmware("product_uuid")),
		Serial:   m.firmware("product_serial"),
		Memory:   kilobytes * 1024,
		CPUs:     count(m.field("/proc/self/status", "Cpus_allowed_list")),
		Platform: source.Parameter(m.line("/proc/cmdline"), nodefs.ParamPlatform),
	}
	for i, line := range strings.Split(m.line("/proc/swaps"), "\n") {
		if words := strings.Fields(line); i > 0 && len(words) > 0 {
			f.Swap = append(f.Swap, words[0])
		}
	}
	return f
}

// line is the text of a small file of the kernel's; empty without it.
func (m *Machine) line(path string) string {
	text, _ := os.ReadFile(m.Root.Path(path))
	return strings.TrimSpace(string(text))
}

// field is the value of the line that begins with name and a colon.
func (m *Machine) field(path, name string) string {
	for line := range strings.Lines(m.line(path)) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// count is how many numbers a list of the kernel's has, as in 0-3,8.
func count(list string) int {
	total := 0
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			return 0
		}
		to := from
		if isRange {
			to, _ = strconv.Atoi(last)
		}
		total += max(to-from+1, 0)
	}
	return total
}

// systemNames are what the system is called while nobody has named it.
func systemNames() []string { return []string{"", "(none)", "localhost", "debian"} }

// firstHostname is the kernel's name for the machine, unless kiln gave it that one: then the name before.
func (m *Machine) firstHostname() string {
	name := strings.ToLower(m.line("/proc/sys/kernel/hostname"))
	if label, _, _ := strings.Cut(name, "."); slices.Contains(systemNames(), label) {
		name = ""
	}
	if before := m.line(firstName); before != "" && (name == "" || name == m.line(nodefs.Hostname) || name == m.copiedName()) {
		return before
	}
	return name
}

// copiedName is the Node's name in the identity's copy, in whatever state that is; empty without one.
func (m *Machine) copiedName() string {
	var id struct {
		Node struct {
			Name string `json:"name"`
		} `json:"node"`
	}
	text, err := os.ReadFile(m.Root.Path(nodefs.IdentityCopy))
	if err != nil || json.Unmarshal(text, &id) != nil {
		return ""
	}
	return id.Node.Name
}

// rememberHostname keeps f.Hostname for later boots. It has to be called before the step hostname.
func (m *Machine) rememberHostname(f Facts) error {
	if f.Hostname == "" {
		return nil
	}
	return put(m.Root.Path(firstName), []byte(f.Hostname+"\n"), 0o644)
}

// ether is the kernel's type of an interface that has an Ethernet address (ARPHRD_ETHER).
const ether = "1"

// hardwareAddresses lists those of physical interfaces or, in a container that has none, those of interfaces that
// nothing on this machine made: the end of a veth pair that was put into it.
func (m *Machine) hardwareAddresses() []string {
	const class = "/sys/class/net/"
	entries, _ := filepath.Glob(m.Root.Path(class + "*"))
	slices.Sort(entries)
	var physical, others []string
	for _, entry := range entries {
		name := filepath.Base(entry)
		at := func(file string) string { return path.Join(class, name, file) }
		mac := strings.ToLower(m.line(at("address")))
		if m.line(at("type")) != ether || mac == "" || strings.Trim(mac, "0:") == "" {
			continue
		}
		made := exists(m.Root.Path(at("bridge"))) || exists(m.Root.Path(at("master"))) || m.deviceType(at("uevent")) != "" || strings.HasPrefix(name, "kiln-")
		switch {
		case exists(m.Root.Path(at("device"))):
			physical = append(physical, mac)
		case !made:
			others = append(others, mac)
		}
	}
	if len(physical) > 0 {
		return physical
	}
	return others
}

// deviceType is what the kernel says that an interface is, as in vxlan; empty for Ethernet.
func (m *Machine) deviceType(path string) string {
	for line := range strings.Lines(m.line(path)) {
		if kind, found := strings.CutPrefix(strings.TrimSpace(line), "DEVTYPE="); found {
			return kind
		}
	}
	return ""
}

// fillers are what makers of firmware write where they write nothing: the same on every machine.
var fillers = regexp.MustCompile(`(?i)^(none|n/a|unknown|not (specified|available|applicable|settable)|default string|to be filled by o\.e\.m\.|` +
	`(system|chassis|product) serial number|0123456789|[0 -]*|f{8}-f{4}-f{4}-f{4}-f{12}|03000200-0400-0500-0006-000700080009)$`)

// firmware is what the firmware says about the product; empty where it says nothing.
func (m *Machine) firmware(field string) string {
	text := m.line("/sys/class/dmi/id/" + field)
	if fillers.MatchString(text) {
		return ""
	}
	return text
}
