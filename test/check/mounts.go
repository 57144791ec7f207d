package main

import (
	"fmt"
	"os"
	"strings"
)

// mount is one line of /proc/mounts.
type mount struct {
	Source, Target, Type string
	Options              []string
}

// option is the value of the option called name, and whether it is there at all.
func (m mount) option(name string) (string, bool) {
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		if key == name {
			return value, true
		}
	}
	return "", false
}

// octal are the characters that the kernel escapes in mount tables.
func octal() *strings.Replacer {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\054`, ",")
}

// parseMounts reads the text of /proc/mounts.
func parseMounts(text string) []mount {
	var mounts []mount
	plain := octal()
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		mounts = append(mounts, mount{
			Source: plain.Replace(fields[0]), Target: plain.Replace(fields[1]), Type: fields[2], Options: strings.Split(fields[3], ","),
		})
	}
	return mounts
}

func (n *node) mounts() ([]mount, error) {
	text, err := os.ReadFile(n.root.Path("/proc/mounts"))
	return parseMounts(string(text)), err
}

// mountedAt is the mount that is visible at target: the last one there.
func mountedAt(mounts []mount, target string) (mount, error) {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].Target == target {
			return mounts[i], nil
		}
	}
	return mount{}, fmt.Errorf("nothing is mounted at %s", target)
}

// mountHolding is the mount on which path lies.
func mountHolding(mounts []mount, path string) mount {
	var best mount
	for _, m := range mounts {
		below := m.Target == "/" || path == m.Target || strings.HasPrefix(path, m.Target+"/")
		if below && len(m.Target) >= len(best.Target) {
			best = m
		}
	}
	return best
}
