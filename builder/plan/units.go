package plan

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/kiln-os/kiln/internal/profile"
)

// Unit is a systemd unit that is enabled or disabled in the image.
type Unit struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
	// By is what says so: the image's presets (base) or the profile.
	By string `json:"by"`
}

// essential are the units without which an image is not a node.
var essential = []string{"containerd.service", "firstboot.service", "kubelet.service", "systemd-networkd.service"}

// presets is where the overlay says what is enabled (systemd.preset(5)).
const presets = "usr/lib/systemd/system-preset/*.preset"

// units joins the overlay's presets with the profile's word, which counts more.
func units(overlay fs.FS, p profile.Profile) []Unit {
	found := map[string]Unit{}
	if overlay != nil {
		files, _ := fs.Glob(overlay, presets)
		for _, file := range files {
			text, err := fs.ReadFile(overlay, file)
			if err != nil {
				continue
			}
			readPreset(found, string(text))
		}
	}
	for name, enabled := range p.Units {
		found[name] = Unit{Name: name, Enabled: enabled, By: "profile " + p.Name}
	}
	list := make([]Unit, 0, len(found))
	for _, unit := range found {
		list = append(list, unit)
	}
	slices.SortFunc(list, func(a, b Unit) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// readPreset adds the units that a preset file names. The first line about a unit decides; patterns name no unit.
func readPreset(found map[string]Unit, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "enable" && words[0] != "disable" || strings.ContainsAny(words[1], "*?[") {
			continue
		}
		if _, decided := found[words[1]]; !decided {
			found[words[1]] = Unit{Name: words[1], Enabled: words[0] == "enable", By: "base"}
		}
	}
}
