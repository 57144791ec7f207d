package preload

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	tableLine = regexp.MustCompile(`^\[(?:[a-z]+|plugins\.'[a-z0-9.-]+'(?:\.[a-z_]+)*)\]$`)
	arrayLine = regexp.MustCompile(`^\[\[plugins\.'[a-z0-9.-]+'\.[a-z_]+\]\]$`)
	valueLine = regexp.MustCompile(`^([A-Za-z0-9_-]+) = (.+)$`)
)

// settings reads the part of TOML that the template uses: tables given once, and values that are JSON, too. It fails on
// anything else.
func settings(t *testing.T, text string) map[string]string {
	t.Helper()
	values, table, tables := map[string]string{}, "", map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		switch value := valueLine.FindStringSubmatch(line); {
		case line == "" || strings.HasPrefix(line, "#"):
		case arrayLine.MatchString(line), tableLine.MatchString(line):
			if tables[line] {
				t.Errorf("table %s is given twice", line)
			}
			tables[line], table = true, strings.Trim(line, "[]")+"."
		case value != nil && json.Valid([]byte(value[2])):
			if _, twice := values[table+value[1]]; twice {
				t.Errorf("%s%s is given twice", table, value[1])
			}
			values[table+value[1]] = value[2]
		default:
			t.Errorf("not TOML: %s", line)
		}
	}
	return values
}

func TestContainerdConfig(t *testing.T) {
	names := []string{"registry.k8s.io/pause:3.10.2", "registry.k8s.io/etcd:3.6.8-0", "registry.k8s.io/coredns/coredns:v1.14.2"}
	text, err := ContainerdConfig("registry.k8s.io/pause:3.10.2", names)
	if err != nil {
		t.Fatal(err)
	}
	values := settings(t, string(text))
	const cri, images = "plugins.'io.containerd.cri.v1.", "plugins.'io.containerd.cri.v1.images'."
	for key, want := range map[string]string{
		"version":                        `3`,
		images + "snapshotter":           `"erofs"`,
		images + "pinned_images.sandbox": `"registry.k8s.io/pause:3.10.2"`,
		cri + "runtime'.containerd.runtimes.runc.snapshotter":               `"erofs"`,
		cri + "runtime'.containerd.runtimes.runc.options.SystemdCgroup":     `true`,
		cri + "runtime'.cni.bin_dirs":                                       `["/usr/lib/cni"]`,
		cri + "runtime'.cni.conf_dir":                                       `"/run/cni/net.d"`,
		"plugins.'io.containerd.snapshotter.v1.erofs'.layer_content_caches": `["/usr/lib/kiln/payload/layers"]`,
	} {
		if values[key] != want {
			t.Errorf("%s is %s; want %s", key, values[key], want)
		}
	}
	var pinned []string
	for key, value := range values {
		if strings.HasPrefix(key, images+"pinned_images.baked-") {
			pinned = append(pinned, strings.Trim(value, `"`))
		}
	}
	slices.Sort(pinned)
	slices.Sort(names)
	if !slices.Equal(pinned, names) {
		t.Errorf("pinned are %v; want %v", pinned, names)
	}
	slices.Reverse(names)
	if again, err := ContainerdConfig("registry.k8s.io/pause:3.10.2", names); err != nil || string(again) != string(text) {
		t.Errorf("another order of names gives another text (%v)", err)
	}
}
